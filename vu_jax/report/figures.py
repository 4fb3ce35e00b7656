"""Draws the figures of the report: plain numbers in, one inline SVG out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator, NullFormatter, PercentFormatter

from vu_jax.report.statistics import CalibrationBin, smooth, wilson_interval
from vu_jax.report.svg import COLOUR, draw

Split = Literal["train", "validation", "test"]
Unit = Literal["", "percent", "log"]
_MOST_POINTS = 600  # more cannot be told apart on a page
_RIGHT_RGB, _WRONG_RGB = (58, 126, 200), (216, 86, 60)  # legible on white and on near-black


@dataclass(frozen=True)
class Curve:
  """One logged number over steps; a noisy one is drawn smoothed, over itself. `spread`: low and high ends."""

  split: Split
  steps: Float[np.ndarray, " n"]
  values: Float[np.ndarray, " n"]
  noisy: bool = False
  spread: Float[np.ndarray, "n 2"] | None = None


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
    axes = figure.add_axes((0.15, 0.13, 0.82, 0.83) if small else (0.105, 0.09, 0.875, 0.88))
    for curve in curves:
      _paint_curve(axes, curve)
    if reference is not None:
      axes.axhline(reference, color=COLOUR["muted"], linewidth=1, linestyle=(0, (2, 3)))
    if unit == "log":
      axes.set_yscale("log")
      axes.yaxis.set_minor_formatter(NullFormatter())
    else:
      axes.yaxis.set_major_locator(MaxNLocator(4 if small else 5))
    if unit == "percent":
      axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None, symbol=" %"))
      axes.set_ylim(bottom=0)
    else:
      axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: tick_text(float(value))))
    axes.xaxis.set_major_locator(MaxNLocator(4 if small else 6, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.margins(x=0.01)

  width, height = (260.0, 160.0) if small else (410.0, 250.0)
  return draw(paint, name, f"{title} over training steps", width, height)


def tick_text(value: float) -> str:
  """Shortest common notation: 0.5 and 250, but 3e-4 where 0.0003 would need counting zeros."""
  if value == 0 or 0.01 <= abs(value) < 10_000:
    return f"{value:g}"
  mantissa, exponent = f"{value:.6e}".split("e")
  return f"{float(mantissa):g}e{int(exponent)}"


def confusion_figure(confusion: Int[np.ndarray, "Y Y"], labels: Sequence[str]) -> str:
  """The confusion matrix: right answers in blue, mistakes in red, strength = share of the row.

  Up to 25 classes every cell that is not zero carries its count; beyond 90 the labels are left out.
  """
  num_classes = len(confusion)
  cell = float(np.clip(700 / num_classes, 1.5, 46))
  font = min(11.0, 0.78 * cell)
  named = cell >= 7.5
  names = [label if len(label) <= 26 else label[:25] + "…" for label in labels]
  margin = 24 + (font * 0.58 * max(map(len, names)) if named else 0)
  side = cell * num_classes
  width, height = margin + side + 8, side + margin + 8

  def paint(figure: Figure) -> None:
    axes = figure.add_axes((margin / width, margin / height, side / width, side / height))
    axes.imshow(confusion_colours(confusion), interpolation="none", aspect="auto")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    for edge in np.arange(num_classes + 1) - 0.5 if cell >= 7.5 else ():
      axes.axhline(edge, color=COLOUR["card"], linewidth=min(2, cell / 12))
      axes.axvline(edge, color=COLOUR["card"], linewidth=min(2, cell / 12))
    axes.set_xticks(range(num_classes) if named else [], names if named else [], rotation=90, fontsize=font)
    axes.set_yticks(range(num_classes) if named else [], names if named else [], fontsize=font)
    axes.set_xlabel("predicted class", loc="left")
    axes.set_ylabel("true class", loc="top")
    if num_classes <= 25:
      _paint_counts(axes, confusion, min(12.0, cell * 0.34))

  title = f"Confusion matrix of {num_classes} classes"
  return draw(
    paint,
    "confusion",
    title,
    width,
    height,
    least_px=width * min(1, 8 / font) if named else 0.0,
    most_px=max(width, 780.0),
  )


def confusion_colours(confusion: Int[np.ndarray, "Y Y"]) -> Float[np.ndarray, "Y Y 4"]:
  """One RGBA colour per cell, 0..1: the hue says right or wrong, the opacity grows with the share of the row.

  Opacity starts at 0.12 for a single clip, so that rare mistakes stay visible; an empty cell is transparent.
  """
  share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
  on_diagonal = np.eye(len(confusion), dtype=bool)[:, :, None]
  rgb = np.where(on_diagonal, np.array(_RIGHT_RGB) / 255, np.array(_WRONG_RGB) / 255)
  opacity = np.where(share > 0, 0.12 + 0.88 * share**0.8, 0)
  return np.concatenate([rgb, opacity[:, :, None]], axis=2)


def calibration_figure(bins: Sequence[CalibrationBin]) -> str:
  """Reliability diagram with Wilson 95 % intervals; below it, how many clips have which confidence."""
  used = [one for one in bins if one.count]
  edges = np.array([one.low for one in bins])
  right, all_clips = np.array([one.right for one in bins]), np.array([one.count for one in bins])
  width_frac = bins[0].high - bins[0].low

  def paint(figure: Figure) -> None:
    top = figure.add_axes((0.14, 0.41, 0.82, 0.57))
    top.plot([0, 1], [0, 1], color=COLOUR["muted"], linewidth=1, linestyle=(0, (2, 3)))
    for one in used:
      low, high = wilson_interval(one.right, one.count)
      top.vlines(one.confidence, low, high, color=COLOUR["right"], linewidth=4, alpha=0.3)
    confidence, accuracy = [one.confidence for one in used], [one.accuracy for one in used]
    top.plot(confidence, accuracy, color=COLOUR["right"], linewidth=1.6, marker="o", markersize=5)
    top.set(xlim=(0, 1), ylim=(-0.02, 1.03), ylabel="accuracy")
    top.tick_params(labelbottom=False)
    below = figure.add_axes((0.14, 0.11, 0.82, 0.23), sharex=top)
    middle, width = edges + width_frac / 2, 0.86 * width_frac
    below.bar(middle, right, width, color=COLOUR["right"], alpha=0.85)
    below.bar(middle, all_clips - right, width, right, color=COLOUR["wrong"], alpha=0.85)
    below.set(xlabel="confidence", ylabel="clips")
    below.yaxis.set_major_locator(MaxNLocator(2, integer=True))
    for axis in (top.xaxis, top.yaxis):
      axis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    figure.align_ylabels()

  return draw(paint, "calibration", "Reliability diagram and histogram of confidence", 400.0, 350.0)


def _paint_curve(axes: Axes, curve: Curve) -> None:
  colour = COLOUR[curve.split]
  stride = max(1, len(curve.steps) // _MOST_POINTS)
  shown = slice(None, None, stride)
  if not curve.noisy:
    if curve.spread is not None:
      axes.vlines(curve.steps, curve.spread[:, 0], curve.spread[:, 1], color=colour, linewidth=1.2, alpha=0.5)
    marker = "o" if len(curve.steps) <= 60 else ""
    axes.plot(curve.steps[shown], curve.values[shown], color=colour, linewidth=1.8, marker=marker, markersize=4)
    return
  smoothed = smooth(curve.values, len(curve.values) // 40)
  if smoothed is not curve.values:
    axes.plot(curve.steps[shown], curve.values[shown], color=colour, linewidth=1, alpha=0.28)
  axes.plot(curve.steps[shown], smoothed[shown], color=colour, linewidth=1.8)


def _paint_counts(axes: Axes, confusion: Int[np.ndarray, "Y Y"], size: float) -> None:
  opacity = confusion_colours(confusion)[:, :, 3]
  for row, column in zip(*np.nonzero(confusion), strict=True):
    colour = "#ffffff" if opacity[row, column] > 0.6 else COLOUR["ink"]
    text = str(confusion[row, column])
    axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)
