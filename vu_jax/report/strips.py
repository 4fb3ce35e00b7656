"""Values with intervals on one scale, as shares of its width: what the interval plots inside of tables are made of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import MaxNLocator

from vu_jax.report.paired import Interval

_MOST_STRETCH = 3.0  # an interval may make the scale this many times as long as the values alone, not more


@dataclass(frozen=True)
class Strip:
  """One value to draw: its mean, interval (None = not known) and single values, in units of the scale."""

  mean: float
  interval: Interval | None
  dots: tuple[float, ...]


@dataclass(frozen=True)
class Scale:
  """From `low` to `high`; ticks as (per cent of the width, label)."""

  low: float
  high: float
  ticks: tuple[tuple[float, str], ...]

  def at(self, value: float) -> float:
    """Where a value lies, in per cent of the width; what lies outside is put on the edge."""
    return float(np.clip(100 * (value - self.low) / (self.high - self.low), 0, 100))


def scale(strips: Sequence[Strip], text: Callable[[float], str], *, always: Sequence[float] = ()) -> Scale | None:
  """One that holds all values, and intervals as long as these do not dwarf the values; None without any.

  Args:
    strips: what is drawn. text: label of a tick. always: further values that it must hold.
  """
  values = np.array([*always, *(v for strip in strips for v in (strip.mean, *strip.dots))])
  if not strips:
    return None
  ends = np.array([end for strip in strips if strip.interval for end in strip.interval] or [values[0]])
  low, high = float(values.min()), float(values.max())
  room = _MOST_STRETCH * (high - low) or float("inf")
  low, high = min(low, max(float(ends.min()), low - room)), max(high, min(float(ends.max()), high + room))
  margin = 0.06 * (high - low) or max(0.01, 0.05 * abs(high))
  found = Scale(low - margin, high + margin, ())
  marks = [float(v) for v in MaxNLocator(4).tick_values(found.low, found.high) if found.low <= v <= found.high]
  return Scale(found.low, found.high, tuple((found.at(mark), text(mark)) for mark in marks))
