"""A run that was killed and started again equals the unbroken one, bit for bit."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from programs import job

STEPS = {"train__steps": "24", "train__eval_every_steps": "8", "train__checkpoint_every_steps": "5"}


def start(arguments: list[str], log: pathlib.Path) -> subprocess.Popen:
  """`python -m experiments.launch` as a process of its own."""
  with log.open("a") as out:
    return subprocess.Popen([sys.executable, "-m", "experiments.launch", *arguments], stdout=out, stderr=out)


def last_step(run_dir: pathlib.Path) -> int:
  """The newest training step in the run's records."""
  try:
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    return max((json.loads(line)["step"] for line in lines if '"train"' in line and line.endswith("}")), default=0)
  except FileNotFoundError:
    return 0


def final_state(run_dir: pathlib.Path) -> list[np.ndarray]:
  from experiments.trained import open_run

  state = open_run(run_dir).state
  leaves = jax.tree.leaves(state.replace(key=jax.random.key_data(state.key)))
  return [np.asarray(x) for x in leaves]


def test_killed_run_equals_the_unbroken_one(tmp_path: pathlib.Path):
  """SIGKILL in the middle of an epoch, then the same command: same parameters, optimizer and figures, exactly.

  24 clips in batches of 8 are 3 steps per epoch; checkpoints at 5, 8, 10, ... fall inside epochs.
  """
  data, log = tmp_path / "data", tmp_path / "log"
  whole, broken = tmp_path / "whole", tmp_path / "broken"
  changes = {**STEPS, "train__log_every_steps": "1", "task__dropout": "0.3", "optim__lr_peak": "0.01"}
  assert start(job(whole, data, **changes), log).wait(240) == 0, log.read_text()[-3000:]

  arguments = job(broken, data, **changes)
  process = start(arguments, log)
  deadline = time.monotonic() + 120
  while last_step(broken) < 11:
    assert process.poll() is None, "the run ended before it was killed"
    assert time.monotonic() < deadline, log.read_text()[-3000:]
    time.sleep(0.01)
  os.kill(process.pid, signal.SIGKILL)
  process.wait(30)
  assert not (broken / "result.json").exists()
  assert start(arguments, log).wait(240) == 0, log.read_text()[-3000:]

  ours, theirs = final_state(broken), final_state(whole)
  assert len(ours) == len(theirs) > 10
  for a, b in zip(ours, theirs, strict=True):
    np.testing.assert_array_equal(a, b)
  results = [json.loads((d / "result.json").read_text()) for d in (whole, broken)]
  assert results[0]["test"] == results[1]["test"]
  curves = [newest_losses(d) for d in (whole, broken)]
  assert curves[0] == curves[1]


def newest_losses(run_dir: pathlib.Path) -> dict[int, float]:
  """Training loss by step; where a step was run twice, the second time."""
  rows = []
  for line in (run_dir / "metrics.jsonl").read_text().splitlines():
    try:
      rows.append(json.loads(line))
    except json.JSONDecodeError:
      continue  # the line that the kill tore
  return {r["step"]: r["loss"] for r in rows if r["split"] == "train"}


def test_unfinished_checkpoint_is_ignored(tmp_path: pathlib.Path):
  """What a kill during saving leaves behind is not taken for a checkpoint."""
  from vu_jax.checkpoint import Checkpoints

  (tmp_path / "checkpoints" / "step_7.orbax-checkpoint-tmp").mkdir(parents=True)
  checkpoints = Checkpoints(tmp_path)
  assert checkpoints.latest() is None
  checkpoints.close()


def test_best_and_newest_are_kept(tmp_path: pathlib.Path):
  """Five saves leave the two newest and the best one; restoring takes the newest."""
  import grain

  from vu_jax.checkpoint import Checkpoints

  checkpoints = Checkpoints(tmp_path, keep=2)
  batches = iter(grain.MapDataset.range(10).to_iter_dataset())
  for step, top1 in enumerate([0.1, 0.9, 0.2, 0.3, 0.4], start=1):
    next(batches)
    checkpoints.save(step, {"x": np.full(3, step)}, batches, {"top1": top1})
  checkpoints.close()
  kept = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
  assert kept == ["step_2", "step_4", "step_5"]
  again = Checkpoints(tmp_path)
  fresh = iter(grain.MapDataset.range(10).to_iter_dataset())
  state = again.restore({"x": np.zeros(3, np.int64)}, fresh)
  np.testing.assert_array_equal(state["x"], 5)
  assert next(fresh) == 5
  again.close()


@pytest.mark.parametrize("batch", [3, 5])
def test_batch_that_does_not_divide(batch: int):
  """The error names a batch size that works."""
  from vu_jax.errors import UserError
  from vu_jax.train.mesh import check_batch_size

  with pytest.raises(UserError, match=rf"batch_size = {batch}: must be a multiple of the 4 devices.*4"):
    check_batch_size(4, batch)
