"""Draws numbers over training steps: plain numbers in, one inline SVG with its title and legend out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator, NullFormatter

from vu_jax.report.statistics import smooth
from vu_jax.report.svg import COLOUR, draw

Unit = Literal["", "percent", "log"]
_MOST_POINTS = 600  # more cannot be told apart on a page
_LEAST_PERCENT = 0.1  # an axis of percent reaches this far at least, so that 1 % looks like little
_WIDE = 30.0  # values that span more than this factor are easier to read on a logarithmic axis


@dataclass(frozen=True)
class Curve:
  """One logged number over steps.

  Fields:
    role: the colour, of `svg.COLOUR`.
    noisy: drawn smoothed, over itself.
    spread: low and high ends. band: drawn as one area, not as one bar per step.
    label: in the legend; the role if empty.
    faint: thin and dashed, of what was given up.
    mark: a name for the page's script.
  """

  role: str
  steps: Float[np.ndarray, " n"]
  values: Float[np.ndarray, " n"]
  noisy: bool = False
  spread: Float[np.ndarray, "n 2"] | None = None
  band: bool = False
  label: str = ""
  faint: bool = False
  mark: str = ""


@dataclass(frozen=True)
class Panel:
  """One figure with its title, what its legend says, as (colour, name), and a remark."""

  title: str
  svg: Markup
  keys: tuple[tuple[str, str], ...] = ()
  note: str = ""


def panel(
  name: str,
  title: str,
  curves: Sequence[Curve],
  *,
  note: str = "",
  unit: Unit = "",
  reference: float | None = None,
  small: bool = False,
) -> list[Panel]:
  """One panel, or none where no curve has two points; `name` is unique within the page."""
  if not any(len(curve.steps) > 1 for curve in curves):
    return []
  svg = curves_figure(name, title, curves, unit=unit, reference=reference, small=small)
  keys = dict.fromkeys((curve.role, curve.label or curve.role) for curve in curves)
  return [Panel(title, Markup(svg), tuple(keys), note)]


def log_if_wide(curves: Sequence[Curve]) -> Unit:
  """Says "log" for positive values that span more than a factor of 30."""
  finite = np.concatenate([curve.values[np.isfinite(curve.values)] for curve in curves] or [np.ones(1)])
  return "log" if finite.size and finite.min() > 0 and finite.max() > _WIDE * finite.min() else ""


def curves_figure(
  name: str,
  title: str,
  curves: Sequence[Curve],
  *,
  unit: Unit = "",
  reference: float | None = None,
  small: bool = False,
) -> str:
  """Curves over steps. `reference` is a dotted level such as chance; "percent" shows fractions as percent."""

  def paint(figure: Figure) -> None:
    axes = figure.add_axes((0.17, 0.15, 0.8, 0.81) if small else (0.115, 0.1, 0.865, 0.87))
    for curve in curves:
      _paint_curve(axes, curve)
    if reference is not None:
      axes.axhline(reference, color=COLOUR["muted"], linewidth=1, linestyle=(0, (2, 3)))
    scale_axis(axes.yaxis, axes.set_yscale, unit, 4 if small else 5)
    if unit == "percent":
      axes.set_ylim(bottom=0 if small or reference is not None else None, top=max(_LEAST_PERCENT, axes.get_ylim()[1]))
    axes.xaxis.set_major_locator(MaxNLocator(4 if small else 6, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.margins(x=0.01)

  width, height = (230.0, 145.0) if small else (380.0, 235.0)
  return draw(paint, name, f"{title} over training steps", width, height)


def scale_axis(axis: Axis, set_scale: Callable[[str], None], unit: Unit, ticks: int) -> None:
  """Gives an axis of values its scale, and ticks that read well."""
  if unit == "log":
    set_scale("log")
    axis.set_minor_formatter(NullFormatter())
  else:
    axis.set_major_locator(MaxNLocator(ticks))
  text = percent_tick if unit == "percent" else tick_text
  axis.set_major_formatter(FuncFormatter(lambda value, _: text(float(value))))


def tick_text(value: float) -> str:
  """Shortest common notation: 0.5 and 250, but 3e-4 where 0.0003 would need counting zeros."""
  if value == 0 or 0.01 <= abs(value) < 10_000:
    return f"{value:.10g}"
  mantissa, exponent = f"{value:.6e}".split("e")
  return f"{float(mantissa):g}e{int(exponent)}"


def percent_tick(value: float) -> str:
  """2.5 % for 0.025."""
  return f"{100 * value:.4g} %"


def _paint_curve(axes: Axes, curve: Curve) -> None:
  colour = COLOUR[curve.role]
  stride = max(1, len(curve.steps) // _MOST_POINTS)
  shown = slice(None, None, stride)
  steps, values, spread = curve.steps[shown], curve.values[shown], curve.spread
  if spread is not None and curve.band:
    low, high = spread[shown].T
    axes.fill_between(steps, low, high, color=colour, alpha=0.16, linewidth=0)
  elif spread is not None:
    axes.vlines(steps, spread[shown, 0], spread[shown, 1], color=colour, linewidth=1.2, alpha=0.5)
  if curve.noisy:
    smoothed = smooth(curve.values, len(curve.values) // 40)
    if smoothed is not curve.values:
      axes.plot(steps, values, color=colour, linewidth=1, alpha=0.28)
    axes.plot(steps, smoothed[shown], color=colour, linewidth=1.8)
    return
  marker = "o" if len(steps) <= 12 else ""
  width, dashes, size = (1.1, (0, (3, 2)), 2.5) if curve.faint else (1.8, "-", 4)
  (line,) = axes.plot(steps, values, color=colour, linewidth=width, linestyle=dashes, marker=marker, markersize=size)
  if curve.mark:
    line.set_gid(curve.mark)
