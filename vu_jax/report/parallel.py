"""Draws the trials of a sweep as lines through one axis per searched key: parallel coordinates."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator
from matplotlib.transforms import blended_transform_factory

from vu_jax.report.curves import tick_text
from vu_jax.report.study import Dimension
from vu_jax.report.svg import COLOUR, draw

UNUSED = -0.12  # where a line runs that does not use a key
_GAP_PX, _LEAST_PX, _HEIGHT_PX = 118.0, 360.0, 330.0


@dataclass(frozen=True)
class Coordinate:
  """One axis: its name, labels at heights 0..1, and the height of a value (`UNUSED` for None)."""

  name: str
  ticks: Sequence[tuple[float, str]]
  place: Callable[[Any], float]


@dataclass(frozen=True)
class Line:
  """One trial: a name for the page's script, a value per axis (None = not used), colour; `faint` = given up."""

  mark: str
  values: Sequence[Any]
  role: str
  faint: bool


def coordinate(dimension: Dimension) -> Coordinate:
  """The axis of a searched key: even places for choices, logarithmic where it was drawn so."""
  if dimension.kind == "choice":
    texts = [_text(choice) for choice in dimension.choices]
    heights = {text: (i + 0.5) / len(texts) for i, text in enumerate(texts)}
    ticks = [(height, text) for text, height in heights.items()]
    return Coordinate(dimension.key, ticks, lambda value: heights.get(_text(value), UNUSED))
  low, high = float(dimension.low or 0), float(dimension.high or 0)
  return numeric(dimension.key, low, high, log=dimension.kind == "log_uniform", whole=dimension.kind == "integers")


def numeric(
  name: str,
  low: float,
  high: float,
  *,
  log: bool = False,
  whole: bool = False,
  text: Callable[[float], str] = tick_text,
) -> Coordinate:
  """An axis of numbers from low to high."""
  turn = math.log10 if log else float
  bottom, top = turn(low), turn(high)

  def place(value: Any) -> float:
    if value is None or not math.isfinite(value) or (log and value <= 0):
      return UNUSED
    return (turn(value) - bottom) / (top - bottom) if top > bottom else 0.5

  few = top - bottom < 1  # less than a decade
  locator = LogLocator(subs=(1, 2, 5) if few else (1,), numticks=6) if log else MaxNLocator(5, integer=whole)
  inside = [float(v) for v in locator.tick_values(low, high) if low <= v * (1 + 1e-9) and v <= high * (1 + 1e-9)]
  return Coordinate(name, [(place(value), text(value)) for value in inside or [low]], place)


def parallel_figure(name: str, axes: Sequence[Coordinate], lines: Sequence[Line]) -> str:
  """One SVG; lines are drawn in order, so the last ones lie on top."""
  skipped = [any(axis.place(line.values[i]) == UNUSED for line in lines) for i, axis in enumerate(axes)]
  bottom = UNUSED - 0.06 if any(skipped) else -0.04
  width = max(_LEAST_PX, _GAP_PX * len(axes))

  def paint(figure: Figure) -> None:
    area = figure.add_axes((0, 0.02, 1, 0.86))
    area.set(xlim=(-0.62, len(axes) - 0.38), ylim=(bottom, 1.04))
    area.set_axis_off()
    for line in lines:
      places = [axis.place(value) for axis, value in zip(axes, line.values, strict=True)]
      width_px, dashes = (1.0, (0, (3, 3))) if line.faint else (1.9, "-")
      (drawn,) = area.plot(range(len(axes)), places, color=COLOUR[line.role], linewidth=width_px, linestyle=dashes)
      drawn.set(gid=line.mark, clip_on=False)
    for i, axis in enumerate(axes):
      _paint_axis(area, i, axis, skipped[i])

  describe = f"Parallel coordinates of {len(lines)} trials over {', '.join(axis.name for axis in axes)}"
  return draw(paint, name, describe, width, _HEIGHT_PX, least_px=_GAP_PX * len(axes) - 30, most_px=1.4 * width)


def ranks(losses: Mapping[int, float], levels: int) -> dict[int, int]:
  """Number -> 0 (worst) .. levels - 1 (best) by rank of the loss; equal losses have the same, the lone one the best."""
  ordered = np.array(sorted(losses.values()))
  beaten = {number: int((ordered > loss).sum()) for number, loss in losses.items()}
  most = max(beaten.values(), default=0)
  return {n: levels - 1 if most == 0 else round(count / most * (levels - 1)) for n, count in beaten.items()}


def _paint_axis(area: Axes, x: int, axis: Coordinate, unused: bool) -> None:
  area.vlines(x, 0, 1, color=COLOUR["muted"], linewidth=1)
  parts = axis.name.rsplit(".", 1)  # the last part is what differs; what stands before it is small
  head = blended_transform_factory(area.transData, area.figure.transFigure)
  area.text(x, 0.985, _short(parts[-1], 17), ha="center", va="top", fontsize=11.5, transform=head)
  if len(parts) > 1:
    area.text(
      x, 0.935, _short(parts[0], 20), ha="center", va="top", fontsize=9.5, color=COLOUR["muted"], transform=head
    )
  ticks = [*axis.ticks, (UNUSED, "not used")] if unused else axis.ticks
  for height, text in ticks:
    area.plot([x - 0.03, x], [height, height], color=COLOUR["muted"], linewidth=1)
    area.text(x - 0.055, height, _short(text, 9), ha="right", va="center", fontsize=9.5, color=COLOUR["muted"])


def _text(choice: Any) -> str:
  return choice if isinstance(choice, str) else json.dumps(choice, ensure_ascii=False, default=str)


def _short(text: str, most: int) -> str:
  return text if len(text) <= most else text[: most - 1] + "…"
