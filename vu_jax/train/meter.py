"""Means of the training figures, rates, memory, and the share of time that the device waits for data.

The figures of a population's steps are arrays (P,), and so are their means.
"""

import contextlib
import pathlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import jax
import numpy as np

from vu_jax.errors import UserError
from vu_jax.glossary import Count
from vu_jax.metrics.sums import merge

Figure: TypeAlias = float | np.ndarray | np.generic  # of one run, or of all members (P,)
_IN_A_ROW = "skipped_in_a_row"


class DivergedError(UserError):
  """The run, or every member of a population, has come to figures that are not finite."""


@dataclass
class _Window:
  """What was collected since the last reading: sums of metrics, clips and steps, and times."""

  sums: dict[str, Any] = field(default_factory=dict)
  clips: int = 0
  steps: int = 0
  wait_s: float = 0.0
  paused_s: float = 0.0
  since: float = field(default_factory=time.perf_counter)


class Meter:
  """Collects the metrics of the steps since the last reading; at most two steps are in flight at a time.

  Without that bound a fast loader would queue batches on the device until its memory is full. The sums can be taken
  out and put back, so that a run which is stopped between two readings writes the figures of the unbroken one.
  """

  def __init__(self, total_steps: int, max_skipped: Count = 20, sums: Mapping[str, Any] | None = None):
    """`sums`: of `state`, to go on from."""
    self._total_steps, self._max_skipped = total_steps, max_skipped
    self._pending: Any = None  # metrics of the newest step, on the device
    self._in_a_row: Any = np.zeros(())
    self._begun = False
    self._now = _Window({k: (np.array(s, np.float32), np.array(w, np.float32)) for k, (s, w) in (sums or {}).items()})

  def fetch(self, batches: Iterator[Any]) -> Any:
    """The next batch. Its time counts as waiting only if the device has run out of work meanwhile."""
    start = time.perf_counter()
    batch = next(batches)
    if not self._begun:  # the first batch finds the loader cold
      self._begun, self._now.since = True, time.perf_counter()
    elif self._pending is None or all(x.is_ready() for x in jax.tree.leaves(self._pending)):
      self._now.wait_s += time.perf_counter() - start
    return batch

  def add(self, metrics: Any, clips: int) -> None:
    """Counts one dispatched step, and waits until the one before it is done."""
    self._settle()
    self._pending = metrics
    self._now.clips += clips
    self._now.steps += 1

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """Leaves what is done inside (evaluation, saving) out of the rates."""
    self._settle()
    start = time.perf_counter()
    yield
    self._now.paused_s += time.perf_counter() - start

  @property
  def failing(self) -> bool:
    """Whether the newest step, of all members, was skipped because its loss or gradient was not finite."""
    self._settle()
    return bool(np.all(self._in_a_row > 0))

  def state(self) -> dict[str, Any]:
    """The sums since the last reading, exactly, for JSON."""
    self._settle()
    return {k: [np.asarray(s).tolist(), np.asarray(w).tolist()] for k, (s, w) in self._now.sums.items()}

  def read(self, step: int) -> dict[str, Figure]:
    """The figures since the last reading, empty if there was no step; raises as `add`."""
    self._settle()
    if not self._now.sums:
      return {}
    seconds = max(time.perf_counter() - self._now.since - self._now.paused_s, 1e-9)
    values: dict[str, Figure] = {k: _mean(s, w) for k, (s, w) in self._now.sums.items()}
    values = {k: v for k, v in values.items() if not np.all(np.isnan(v))}  # nan: all steps were skipped
    if "skipped" in self._now.sums:
      values["skipped"] = self._now.sums["skipped"][0]
    values |= {
      "clips_per_s": self._now.clips / seconds,
      "data_wait_frac": min(self._now.wait_s / seconds, 1.0),
      "seconds_left": seconds / max(self._now.steps, 1) * (self._total_steps - step),
      **memory(),
    }
    self._now = _Window()
    return values

  def _settle(self) -> None:
    """Waits for the newest step and adds its metrics to the sums.

    Raises:
      UserError: its figures are not finite, or too many steps in a row were skipped because of that.
    """
    if self._pending is None:
      return
    found, self._pending = dict(jax.device_get(self._pending)), None
    self._in_a_row = np.asarray(found.pop(_IN_A_ROW, (0, 1))[0])
    if np.all(self._in_a_row >= self._max_skipped) or not all(np.isfinite(x).all() for x in jax.tree.leaves(found)):
      raise DivergedError(f"{diverged(int(np.min(self._in_a_row)))}; checkpoints are of before")
    self._now.sums = dict(merge([self._now.sums, found])) if self._now.sums else found


def diverged(steps: int) -> str:
  """What is wrong with a run of which so many steps in a row were skipped, and how to mend it."""
  in_a_row = f" for {steps} steps in a row" if steps > 1 else ""
  return (
    f"loss, gradient or parameters are not finite{in_a_row}: lower config.optim.lr_peak, or set config.optim.clip_norm"
  )


def _mean(total: Any, weight: Any) -> Figure:
  """NaN where there is no weight."""
  with np.errstate(invalid="ignore", divide="ignore"):
    return np.float64(total) / np.float64(weight)


def memory() -> dict[str, float]:
  """Resident memory of this process, and memory in use on its first device where the backend tells [MiB]."""
  found = {}
  status = pathlib.Path("/proc/self/status")
  if status.exists():  # Linux
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS:"))
    found["host_mib"] = int(line.split()[1]) / 2**10
  on_device = jax.local_devices()[0].memory_stats() or {}
  if "bytes_in_use" in on_device:
    found["device_mib"] = on_device.get("peak_bytes_in_use", on_device["bytes_in_use"]) / 2**20
  return found
