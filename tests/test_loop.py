"""The loop: interrupted anywhere and continued it equals the unbroken run; when it stops, and what it must not save."""

import io
import json
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from rich.console import Console
from test_checkpoint import Numbers, names

from vu_jax.checkpoint.saving import Checkpoints
from vu_jax.errors import UserError
from vu_jax.train.log import RunLog
from vu_jax.train.loop import Train, train
from vu_jax.train.meter import Meter
from vu_jax.train.profiling import Profile
from vu_jax.train.signals import Interrupted, StopSignals

# Nothing divides anything: logs, checkpoints and evaluations fall on different steps.
OPTIONS = Train(steps=13, eval_every_steps=4, checkpoint_every_steps=3, log_every_steps=5, keep=20)
MEASURED = ("time", "clips_per_s", "data_wait_frac", "seconds_left", "host_mib", "device_mib")


class State(struct.PyTreeNode):
  step: Any
  weight: Any


@jax.jit
def one_step(state: State, batch: Mapping[str, jax.Array]) -> tuple[State, dict[str, Any]]:
  noise = jax.random.normal(jax.random.fold_in(jax.random.key(0), state.step))
  weight = 0.9 * state.weight + noise * batch["x"].sum() / 3
  return State(state.step + 1, weight), {"loss": (weight**2, jnp.float32(3))}


def run(
  workdir: pathlib.Path,
  options: Train = OPTIONS,
  step: Callable[..., Any] = one_step,
  evaluate: Callable[[State], Mapping[str, float]] = lambda state: {"loss": float(state.weight)},
  stop: StopSignals | None = None,
) -> State:
  """One process's life."""
  workdir.mkdir(exist_ok=True)
  log = RunLog(workdir, options.steps, Console(file=io.StringIO()), ("jsonl",))
  checkpoints = Checkpoints(workdir, options.keep, options.keep_best, options.best)
  try:
    return train(
      options,
      State(jnp.int32(0), jnp.float32(1)),
      step,
      Numbers(),
      lambda n: {"x": jnp.arange(3.0) + n, "mask": jnp.ones(3)},
      evaluate,
      lambda step: 0.1 * step,
      checkpoints,
      log,
      StopSignals() if stop is None else stop,
      Profile(options.profile_steps, workdir / "profile"),
    )
  finally:
    checkpoints.close()
    log.close()


def records(workdir: pathlib.Path) -> list[dict[str, Any]]:
  rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  return [{k: v for k, v in row.items() if k not in MEASURED} for row in rows]


def same(ours: pathlib.Path, theirs: pathlib.Path) -> None:
  """Records, evaluations and checkpoints are equal."""
  assert records(ours) == records(theirs)
  assert names(ours) == names(theirs)
  read = [json.loads((d / "checkpoints" / "evaluations.json").read_text()) for d in (ours, theirs)]
  assert read[0] == read[1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, State]:
  workdir = tmp_path_factory.mktemp("whole")
  return workdir, run(workdir)


def test_what_a_run_leaves(whole):
  """Figures at every due step, once; evaluations at 4, 8, 12 and the end; rates and memory beside them."""
  workdir, state = whole
  assert [(r["step"], r["split"]) for r in records(workdir)] == [
    *((4, "validation"), (5, "train"), (8, "validation"), (10, "train"), (12, "validation")),
    *((13, "train"), (13, "validation")),
  ]
  assert names(workdir) == [f"step_{n}" for n in (12, 13, 3, 4, 6, 8, 9)]
  last = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()][-2]
  assert last["lr"] == pytest.approx(1.2)
  assert last["clips_per_s"] > 0
  assert last["host_mib"] > 50
  assert int(state.step) == 13


class AskedAt(StopSignals):
  """A signal that comes before the loop looks for the n-th time."""

  def __init__(self, looks: int):
    super().__init__()
    self._left = looks

  def anywhere(self) -> bool:
    self._left -= 1
    return self._left < 0


@pytest.mark.parametrize("step", [0, 2, 5, 8, 13])
def test_interrupted_run_equals_the_unbroken_one(step, whole, tmp_path):
  """Between all events, where figures are due, where an evaluation is due, and at the end."""
  with pytest.raises(Interrupted, match=f"step {step}, saved"):
    run(tmp_path, stop=AskedAt(step))
  state = run(tmp_path)
  np.testing.assert_array_equal(state.weight, whole[1].weight)
  (tmp_path / "checkpoints" / f"step_{step}").rename(tmp_path / "extra")
  if (whole[0] / "checkpoints" / f"step_{step}").exists():
    (tmp_path / "extra").rename(tmp_path / "checkpoints" / f"step_{step}")
  same(tmp_path, whole[0])


def test_killed_in_an_evaluation(whole, tmp_path):
  """Only the evaluation is lost, and made up for; a line that the kill tore is gone."""

  def interrupted(state: State) -> Mapping[str, float]:
    if int(state.step) == 8:
      raise Interrupted
    return {"loss": float(state.weight)}

  with pytest.raises(Interrupted):
    run(tmp_path, evaluate=interrupted)
  assert names(tmp_path)[-1] == "step_8"
  with (tmp_path / "metrics.jsonl").open("a") as file:
    file.write(
      '{"step": 8, "split": "validation", "loss": 7}\n{"step": 9, "split": "train", "loss": 8}\n{"step": 10, "s'
    )
  run(tmp_path)
  same(tmp_path, whole[0])


def test_stops_without_improvement(tmp_path):
  """The best is at 4, so with a patience of 2 the run ends at 12; interrupted before or begun again, too."""
  options = Train(steps=40, eval_every_steps=4, checkpoint_every_steps=40, log_every_steps=40, stop_patience=2)
  figures = {4: 0.5, 8: 0.4, 12: 0.5, 16: 0.9}

  def evaluate(state: State) -> Mapping[str, float]:
    return {"top1": figures[int(state.step)], "loss": 1.0}

  with pytest.raises(Interrupted):
    run(tmp_path, options, evaluate=evaluate, stop=AskedAt(10))
  for _ in range(2):
    assert int(run(tmp_path, options, evaluate=evaluate).step) == 12
  assert [r["step"] for r in records(tmp_path)] == [4, 8, 12]
  assert names(tmp_path) == ["step_10", "step_12", "step_4"]


def pairs(**metrics: tuple[float, float]) -> dict[str, Any]:
  return jax.tree.map(jnp.float32, metrics)


def failing_from(first: int, skips: bool) -> Callable[..., Any]:
  """A step whose loss is no number from some update on; one with a guard skips it and says so."""

  def step(state: State, batch: Any) -> Any:
    bad = int(state.step) >= first
    after, metrics = one_step(state, batch)
    if not bad:
      return after, metrics | (pairs(skipped=(0, 1), skipped_in_a_row=(0, 1)) if skips else {})
    if not skips:
      return after.replace(weight=jnp.nan), pairs(loss=(jnp.nan, 3))
    count = int(state.step) - first + 1
    return state.replace(step=state.step + 1), pairs(loss=(0, 0), skipped=(1, 1), skipped_in_a_row=(count, 1))

  return step


@pytest.mark.parametrize(
  ("skips", "said"), [(False, "are not finite:"), (True, "are not finite for 4 steps in a row:")]
)
def test_loss_that_is_no_number(skips, said, tmp_path):
  """One line with the cure. The last good checkpoint stays: none is made of a state that may be beyond help."""
  options = Train(
    steps=20, eval_every_steps=20, checkpoint_every_steps=1, log_every_steps=2, keep=1, max_skipped_steps=4
  )
  with pytest.raises(UserError, match=rf"{said} lower config.optim.lr_peak"):
    run(tmp_path, options, failing_from(5, skips))
  assert names(tmp_path) == ["step_5"]


def test_skipped_steps_are_counted():
  """Two of three steps were skipped: the mean is of the third, and their number is logged."""
  meter = Meter(10)
  for loss, weight, skipped, in_a_row in ((0, 0, 1, 1), (0, 0, 1, 2), (6, 3, 0, 0)):
    meter.add(pairs(loss=(loss, weight), skipped=(skipped, 1), skipped_in_a_row=(in_a_row, 1)), 3)
  found = meter.read(3)
  assert found["loss"] == 2
  assert found["skipped"] == 2
  assert "skipped_in_a_row" not in found


def test_signal_ends_after_the_step(whole, tmp_path):
  """SIGTERM in the middle of a step; handlers are given back."""
  before = signal.getsignal(signal.SIGTERM)

  def step(state: State, batch: Any) -> Any:
    if int(state.step) == 6:
      os.kill(os.getpid(), signal.SIGTERM)
    return one_step(state, batch)

  with StopSignals() as stop, pytest.raises(Interrupted, match="step 7"):
    run(tmp_path, step=step, stop=stop)
  assert stop.name == "SIGTERM"
  assert signal.getsignal(signal.SIGTERM) is before
  np.testing.assert_array_equal(run(tmp_path).weight, whole[1].weight)


def test_second_signal_ends_at_once():
  """Even where the program is stuck."""
  program = (
    "import os, signal\n"
    "from vu_jax.train.signals import StopSignals\n"
    "with StopSignals():\n"
    "  os.kill(os.getpid(), signal.SIGINT)\n"
    "  print('still here', flush=True)\n"
    "  os.kill(os.getpid(), signal.SIGINT)\n"
    "  print('never', flush=True)\n"
  )
  ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
  assert ended.returncode == -signal.SIGINT
  assert ended.stdout == "still here\n"
  assert "once more to end at once" in ended.stderr


def test_profile_covers_the_chosen_steps(tmp_path, monkeypatch):
  """The trace begins before step 4 and ends behind step 6."""
  seen: list[Any] = []
  monkeypatch.setattr(jax.profiler, "start_trace", lambda folder: seen.append(folder))
  monkeypatch.setattr(jax.profiler, "stop_trace", lambda: seen.append("stop"))

  def step(state: State, batch: Any) -> Any:
    seen.append(int(state.step) + 1)
    return one_step(state, batch)

  options = Train(steps=8, eval_every_steps=8, checkpoint_every_steps=8, profile_steps=(3, 6))
  run(tmp_path, options, step)
  assert seen == [1, 2, 3, str(tmp_path / "profile"), 4, 5, 6, "stop", 7, 8]
  with pytest.raises(UserError, match=r"profile_steps = \(6, 3\): must be \(start, stop\)"):
    Train(profile_steps=(6, 3))
