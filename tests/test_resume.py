"""A run that is killed and started again equals the unbroken one, bit for bit.

`KILLS=10 pytest -n 0 tests/test_resume.py` kills it ten times, at random moments; the plain suite once.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from programs import call, job
from test_loop import records

from experiments import launch

KILLS = int(os.environ.get("KILLS", "1"))
STEPS = 24 if KILLS == 1 else 20 * KILLS
# All that draws or remembers: mixing, augmentation, dropout, averages, accumulation. 24 clips in batches of 8 are
# 3 steps per epoch, and logs, checkpoints and evaluations fall on different steps.
CHANGES = {
  "model__stages": "((4,2),)",
  "train__steps": str(STEPS),
  "train__eval_every_steps": "16",
  "train__checkpoint_every_steps": "5",
  "train__log_every_steps": "3",
  "train__writers": "('jsonl',)",
  "train__accumulate": "2",
  "train__ema_decay": "0.9",
  "augment__mixup_alpha": "0.4",
  "augment__brightness": "0.2",
  "task__dropout": "0.3",
  "optim__lr_peak": "0.01",
}
CONFIG = "configs/motion_frame_cnn.py"  # compiles in half the time of a recurrent network


def arguments(run_dir: pathlib.Path, data: pathlib.Path) -> list[str]:
  return job(run_dir, data, CONFIG, **CHANGES)


def in_a_save(run_dir: pathlib.Path, rng: np.random.Generator) -> Callable[[], bool]:
  """While a checkpoint behind the newest one is being written."""
  newest = max((step_of(p) for p in run_dir.glob("checkpoints/step_*")), default=0)
  after = time.monotonic() + 1000

  def now() -> bool:
    nonlocal after
    if any(step_of(p) > newest + 5 for p in run_dir.glob("checkpoints/step_*tmp*")):
      after = min(after, time.monotonic() + rng.uniform(0, 0.05))
    return time.monotonic() >= after

  return now


def after_a_while(run_dir: pathlib.Path, rng: np.random.Generator) -> Callable[[], bool]:
  """Some seconds after the first record, or, one time in four, after the start."""
  begun, delay = time.monotonic(), rng.uniform(0, 4)
  size = (run_dir / "metrics.jsonl").stat().st_size if (run_dir / "metrics.jsonl").exists() else 0
  early = rng.random() < 0.25

  def now() -> bool:
    nonlocal begun, early
    file = run_dir / "metrics.jsonl"
    if not early and not (file.exists() and file.stat().st_size > size):
      begun = time.monotonic()
    return time.monotonic() - begun >= delay

  return now


def step_of(folder: pathlib.Path) -> int:
  return int(folder.name.split("_")[1].split(".")[0])


def killed(command: list[str], run_dir: pathlib.Path, moment: Callable[[], bool]) -> bool:
  """Starts a run and kills it at a moment; whether it was alive then."""
  with (run_dir.parent / "log").open("a") as log:
    process = subprocess.Popen([sys.executable, "-m", "experiments.launch", *command], stdout=log, stderr=log)
  deadline = time.monotonic() + 200
  while not moment() and process.poll() is None:
    assert time.monotonic() < deadline, (run_dir.parent / "log").read_text()[-3000:]
    time.sleep(0.001)
  alive = process.poll() is None
  os.kill(process.pid, signal.SIGKILL)
  process.wait(30)
  return alive


def kept(run_dir: pathlib.Path) -> dict[str, dict[str, np.ndarray]]:
  """All arrays of all checkpoints, by path; parameters and everything else."""
  found = {}
  for folder in sorted((run_dir / "checkpoints").glob("step_*")):
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
      leaves = jax.tree_util.tree_flatten_with_path(reader.restore(folder / "state"))[0]
    found[folder.name] = {jax.tree_util.keystr(path): plain(array) for path, array in leaves}
  return found


def plain(array: jax.Array) -> np.ndarray:
  return np.asarray(jax.random.key_data(array) if jnp.issubdtype(array.dtype, jax.dtypes.prng_key) else array)


def outcome(run_dir: pathlib.Path) -> Any:
  return records(run_dir), json.loads((run_dir / "checkpoints" / "evaluations.json").read_text())


def test_killed_run_equals_the_unbroken_one(tmp_path, capsys, monkeypatch):
  """SIGKILL, inside an asynchronous save too, then the same command: same checkpoints and records, exactly."""
  for name in ("finish", "write_report", "summary_table"):  # what comes after training is tested elsewhere
    monkeypatch.setattr(launch, name, lambda *given: "")
  data, whole, broken = tmp_path / "data", tmp_path / "whole", tmp_path / "broken"
  ended = call("launch", *arguments(whole, data), capsys=capsys, monkeypatch=monkeypatch)
  assert ended.code == 0, ended.err
  rng, kills = np.random.default_rng(0), 0
  while kills < KILLS:
    choose = in_a_save if kills % 2 == 0 else after_a_while
    if not killed(arguments(broken, data), broken, choose(broken, rng)):
      break
    kills += 1
    left = sorted(p.name for p in broken.glob("checkpoints/step*"))
    if KILLS > 1:
      with capsys.disabled():
        print(f"kill {kills} ({choose.__name__}) left {left}")
  assert kills >= max(1, KILLS - 2)
  ended = call("launch", *arguments(broken, data), capsys=capsys, monkeypatch=monkeypatch)
  assert ended.code == 0, ended.err
  assert outcome(broken) == outcome(whole)
  ours, theirs = kept(broken), kept(whole)
  assert ours.keys() == theirs.keys()
  for name in theirs:
    assert len(theirs[name]) > 10
    for path in theirs[name]:
      np.testing.assert_array_equal(ours[name][path], theirs[name][path], err_msg=f"{name}: {path}")


@pytest.mark.parametrize("batch", [3, 5])
def test_batch_that_does_not_divide(batch: int):
  """The error names a batch size that works."""
  from vu_jax.errors import UserError
  from vu_jax.train.mesh import check_batch_size

  with pytest.raises(UserError, match=rf"batch_size = {batch}: must be a multiple of the 4 devices.*4"):
    check_batch_size(4, batch)
