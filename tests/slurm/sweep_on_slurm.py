"""A sweep on a real Slurm: both of its workers are requeued while they train; all trials must be completed.

python tests/slurm/sweep_on_slurm.py [FOLDER]      # as root, with Debian's slurm-wlm; takes a few minutes

Starts a Slurm of one node (one_node.sh), submits a small sweep as anybody would, and waits for its end. Once both
workers have trained for a while, one is requeued by `scontrol requeue`, as a cluster does that wants the node back, and
the other gets the signal that its time is almost up.
"""

import json
import os
import pathlib
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

ROOT = pathlib.Path(__file__).parents[2]
NODE = pathlib.Path(__file__).parent / "one_node.sh"
LIMIT_S = 1500.0
SMALL = (
  *("data.num_train=24", "data.num_validation=10", "data.num_test=18", "data.size_px=32", "data.num_frames=8"),
  *("data.lifetime_f=4", "pixels.short_side=16", "pixels.crop=16", "loader.batch_size=8", "model.stages=((4,2),)"),
  *("train.steps=1500", "train.eval_every_steps=500", "train.checkpoint_every_steps=500", "train.log_every_steps=10"),
)


def slurm(*words: str) -> str:
  return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def wait(what: str, ready: Callable[[], bool]) -> None:
  start = time.monotonic()
  while not ready():
    if time.monotonic() - start > LIMIT_S:
      sys.exit(f"in vain: {what}")
    time.sleep(1.0)
  print(f"{time.monotonic() - start:6.0f} s  {what}", flush=True)


def read(directory: pathlib.Path) -> list[dict]:
  file = directory / "study.json"
  return json.loads(file.read_text())["trials"] if file.exists() else []


def states(directory: pathlib.Path) -> list[str]:
  return [trial["state"] for trial in read(directory)]


def main(folder: pathlib.Path) -> None:
  directory = folder / "sweep"
  options = [f"--config.{text}" for text in SMALL]
  command = [sys.executable, "-m", "experiments.sweep", "--config=configs/motion_frame_cnn.py", *options]
  command += [f"--data_dir={folder / 'data'}", f"--workdir={directory}", "--trials=4", "--batch=2", "--jobs=2"]
  command += ["--vary=optim.lr_peak=log_uniform(1e-4,1e-2)", "--cluster=slurm", "--slurm=time=60,cpus_per_task=1"]
  print(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
  print(slurm("squeue", "-r"))
  logs = [directory / "trials" / name / "metrics.jsonl" for name in ("0000", "0002")]  # one of each group
  wait("both workers train", lambda: all(log.exists() and '"step": 30,' in log.read_text() for log in logs))
  jobs = re.findall(r"^\d+_\d+", slurm("squeue", "-r", "-h", "-o", "%i"), re.MULTILINE)
  print(f"scontrol requeue {jobs[0]} {slurm('scontrol', 'requeue', jobs[0])}")
  print(f"scancel --signal=USR2 {jobs[1]} {slurm('scancel', '--signal=USR2', jobs[1])}")
  wait("both have been requeued", lambda: [restarts(job) for job in jobs] == [1, 1])
  print(slurm("squeue", "-r"))
  wait("all trials are told", lambda: states(directory) == ["complete"] * 4)
  wait("no job is left", lambda: not slurm("squeue", "-h"))
  check(directory, jobs)


def restarts(job: str) -> int:
  return int(re.findall(r"Restarts=(\d+)", slurm("scontrol", "show", "job", job))[0])


def check(directory: pathlib.Path, jobs: list[str]) -> None:
  """Each trial once, to its last step, no step twice; and groups that went on from a checkpoint."""
  again = [restarts(job) for job in jobs]
  said = "".join(file.read_text() for file in sorted((directory / "logs").iterdir()))
  rows = sqlite3.connect(directory / "study.db").execute("select number, state from trials order by number").fetchall()
  print(f"restarts of {jobs}: {again}\ncontinued: {re.findall('continues .*', said)}\nstorage: {rows}")
  assert again == [1, 1]
  assert rows == [(n, "COMPLETE") for n in range(4)]
  assert len(re.findall("continues  from step [1-9]", said)) >= 2
  for number in range(4):
    lines = (directory / "trials" / f"{number:04d}" / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines if '"split": "train"' in line]
    assert steps == sorted(set(steps)), f"trial {number} was trained twice: {steps}"
    assert steps[-1] == 1500
  print("the sweep is complete, and nothing was trained twice")


if __name__ == "__main__":
  place = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="one_node_"))
  subprocess.run([NODE, "start", place / "slurm"], check=True)
  os.environ["SLURM_CONF"] = str(place / "slurm" / "slurm.conf")
  try:
    main(place)
  finally:
    subprocess.run([NODE, "stop", place / "slurm"], check=True)
