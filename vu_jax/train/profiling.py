"""A trace of some steps, for TensorBoard's profiler or Perfetto."""

import pathlib
from collections.abc import Sequence
from typing import Any

import jax


class Profile:
  """Traces the steps start + 1 .. stop of `steps` = (start, stop) into a folder; () = none."""

  def __init__(self, steps: Sequence[int], folder: pathlib.Path):
    self._steps, self._folder, self._on = steps, folder, False

  def before_step(self, step: int, state: Any) -> str:
    """Called when so many steps are made; gives a line when the trace is written."""
    if not self._steps:
      return ""
    start, stop = self._steps
    if not self._on and start <= step < stop:
      jax.block_until_ready(state)
      jax.profiler.start_trace(str(self._folder))
      self._on = True
    elif self._on and step >= stop:
      jax.block_until_ready(state)
      self.close()
      return f"trace of steps {start + 1} to {stop}: {self._folder} (tensorboard --logdir, or ui.perfetto.dev)"
    return ""

  def close(self) -> None:
    if self._on:
      jax.profiler.stop_trace()
      self._on = False
