"""Means of the training figures, clips per second, and the share of time that the device waits for data."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import jax

from vu_jax.errors import UserError
from vu_jax.metrics.sums import divide, merge


class Meter:
  """Collects the metrics of the steps since the last reading; at most two steps are in flight at a time.

  Without that bound a fast loader would queue batches on the device until its memory is full.
  """

  def __init__(self, total_steps: int):
    self._total_steps = total_steps
    self._reset()

  def fetch(self, batches: Iterator[Any]) -> Any:
    """The next batch. Its time counts as waiting only if the device has run out of work meanwhile."""
    start = time.perf_counter()
    batch = next(batches)
    if not self._metrics or all(x.is_ready() for x in jax.tree.leaves(self._metrics[-1])):
      self._wait_s += time.perf_counter() - start
    return batch

  def add(self, metrics: Any, clips: int) -> None:
    """Counts one dispatched step, and waits until the one before it is done."""
    if self._metrics:
      jax.block_until_ready(self._metrics[-1])
    self._metrics.append(metrics)
    self._clips += clips

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """Leaves what is done inside (evaluation, saving) out of the rates."""
    jax.block_until_ready(self._metrics)
    start = time.perf_counter()
    yield
    self._paused_s += time.perf_counter() - start

  def read(self, step: int) -> dict[str, float]:
    """The figures since the last reading, empty if there was no step.

    Raises:
      UserError: the loss is no longer a number.
    """
    if not self._metrics:
      return {}
    values = divide(merge(jax.device_get(self._metrics)))
    if not all(abs(v) < float("inf") for v in values.values()):
      raise UserError(
        f"the loss or its gradient is not finite near step {step}: lower config.optim.lr_peak, or set "
        "config.optim.clip_norm"
      )
    seconds = max(time.perf_counter() - self._since - self._paused_s, 1e-9)
    values |= {
      "clips_per_s": self._clips / seconds,
      "data_wait_frac": min(self._wait_s / seconds, 1.0),
      "seconds_left": seconds / len(self._metrics) * (self._total_steps - step),
    }
    self._reset()
    return values

  def _reset(self) -> None:
    self._metrics: list[Any] = []
    self._clips = 0
    self._wait_s = 0.0
    self._paused_s = 0.0
    self._since = time.perf_counter()
