"""Several processes as one run: the same figures, one set of files, and an end for all when one is lost."""

import json
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
from programs import LONG, call, job

from vu_jax.errors import UserError
from vu_jax.train.distributed import connect, is_first, whole_node
from vu_jax.train.signals import EXIT_CODE

# Everything that draws by the clip's place in the batch, or looks at other clips of it; and views at the end.
CHANGES = {
  "train__ema_decay": "0.9",
  "task__dropout": "0.3",
  "augment__mixup_alpha": "0.4",
  "train__accumulate": "2",
  "train__writers": "('jsonl',)",
  "eval__clips": "3",
  "model__stages": "((4,2),)",
}
DIVIDED = {"mesh__fsdp": "2", "mesh__shard_min_size": "1"}  # neither process holds the whole state


def small(workdir: pathlib.Path, data_dir: pathlib.Path, **changes: str) -> list[str]:
  """Arguments of a launch that takes seconds."""
  return job(workdir, data_dir, "configs/motion_frame_cnn.py", **CHANGES | changes)


def start_pair(arguments: list[str], logs: pathlib.Path) -> list[subprocess.Popen]:
  """Two processes on this machine that train together."""
  with socket.socket() as free:
    free.bind(("localhost", 0))
    address = f"localhost:{free.getsockname()[1]}"
  command = [sys.executable, "-m", "experiments.launch", *arguments, f"--coordinator={address}"]
  pair = []
  for i in range(2):
    with (logs / f"{i}.log").open("a") as log:
      pair.append(subprocess.Popen([*command, f"--process={i}/2"], stdout=log, stderr=log))
  return pair


def ended(pair: list[subprocess.Popen], logs: pathlib.Path) -> list[str]:
  """What both said, once they are done."""
  try:
    codes = [process.wait(150) for process in pair]
  finally:
    for process in pair:
      process.kill()
  said = [(logs / f"{i}.log").read_text() for i in range(2)]
  assert codes == [0, 0], "\n".join(said)[-3000:]
  return said


def records(run_dir: pathlib.Path) -> tuple[dict, list[dict], list[dict]]:
  """Result, predictions, and the curves without times and rates."""
  result = json.loads((run_dir / "result.json").read_text())
  predictions = [json.loads(line) for line in (run_dir / "predictions_test.jsonl").read_text().splitlines()]
  rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
  names = ("step", "loss", "objective", "grad_norm", "top1")
  return result, predictions, [{k: row[k] for k in names if k in row} for row in rows]


def files(run_dir: pathlib.Path) -> set[str]:
  """All outside of checkpoints, which are laid out by process."""
  return {str(p.relative_to(run_dir)) for p in run_dir.rglob("*") if p.is_file() and "step_" not in str(p)}


def test_two_processes_train_and_evaluate_as_one(tmp_path, capsys, monkeypatch):
  """Dropout, mixing, parts, average and views included: the same curves, figures and predictions, and the same files.

  The first process prepares the data, and alone writes and speaks. The two hold one copy of the state.
  """
  pair = start_pair(small(tmp_path / "two", tmp_path / "data", **DIVIDED), tmp_path)
  said = ended(pair, tmp_path)
  assert "test top-1" in said[0]
  assert re.sub(r"\[Gloo\].*\n", "", said[1]) == ""
  alone = call("launch", *small(tmp_path / "one", tmp_path / "data"), capsys=capsys, monkeypatch=monkeypatch)
  assert alone.code == 0, alone.err
  two, one = records(tmp_path / "two"), records(tmp_path / "one")
  assert two[0]["test"] == pytest.approx(one[0]["test"], abs=1e-5)
  assert two[0]["confusion"] == one[0]["confusion"]
  assert two[0]["provenance"]["device"].endswith("x2")
  for a, b in zip([*two[1], *two[2]], [*one[1], *one[2]], strict=True):
    assert a.keys() == b.keys()
    for key in a:
      assert a[key] == (b[key] if isinstance(b[key], str) else pytest.approx(b[key], rel=1e-4, abs=2e-5))
  assert files(tmp_path / "two") == files(tmp_path / "one")


@pytest.mark.skipif(not LONG, reason="takes a minute; VU_JAX_LONG=1 runs it")
@pytest.mark.parametrize("victim", [0, 1])
def test_the_loss_of_one_process_ends_the_other(tmp_path, victim):
  """SIGKILL; the survivor ends within a minute with a message; the pair goes on to the same end, bit for bit.

  Without the first process JAX's own service may be quicker than our message, and aborts.
  """
  changes = DIVIDED | {"train__steps": "60", "train__eval_every_steps": "20", "train__log_every_steps": "1"}
  ended(start_pair(small(tmp_path / "whole", tmp_path / "data", **changes), tmp_path), tmp_path)
  arguments = small(tmp_path / "broken", tmp_path / "data", **changes)
  pair, curve = start_pair(arguments, tmp_path), tmp_path / "broken" / "metrics.jsonl"
  deadline = time.monotonic() + 120
  while not (curve.exists() and '"step": 15,' in curve.read_text()):
    assert time.monotonic() < deadline
    time.sleep(0.01)
  pair[victim].send_signal(signal.SIGKILL)
  code, said = pair[1 - victim].wait(60), (tmp_path / f"{1 - victim}.log").read_text()
  if victim == 0 and code == -signal.SIGABRT:
    assert "another task died" in said
  else:
    assert code == EXIT_CODE
    assert "another process of this run is lost" in said
  ended(start_pair(arguments, tmp_path), tmp_path)
  whole, broken = records(tmp_path / "whole"), records(tmp_path / "broken")
  assert broken[0]["test"] == whole[0]["test"]
  assert broken[1:] == whole[1:]


def test_mistakes_in_the_addresses_are_one_line(monkeypatch):
  """Each says what is expected; one process of one needs nothing."""
  with pytest.raises(UserError, match=r"--process=2/2: must be I/N .* such as 0/2"):
    connect("2/2", "localhost:1")
  with pytest.raises(UserError, match=r'--coordinator="": must be HOST:PORT'):
    connect("0/2")
  with pytest.raises(UserError, match=r"--process=auto: the processes do not find each other"):
    connect("auto")
  connect("0/1")
  assert is_first()
  monkeypatch.setenv("SLURM_STEP_ID", "0")
  monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
  with pytest.raises(UserError, match=r"Slurm has started 4 tasks .* --process=auto"):
    connect("")


def test_one_task_per_node_takes_all_its_gpus(monkeypatch):
  """JAX would take the first one only; with several tasks per node it is right."""
  assert whole_node() is None
  monkeypatch.setenv("SLURM_GPUS_ON_NODE", "4")
  for tasks, wanted in (("1(x2)", [0, 1, 2, 3]), ("1", [0, 1, 2, 3]), ("4(x2)", None), ("1,4", None), ("11", None)):
    monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", tasks)
    assert whole_node() == wanted
