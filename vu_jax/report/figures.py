"""Draws what a classifier got right and wrong: counts in, one inline SVG out."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from vu_jax.report.statistics import CalibrationBin, wilson_interval
from vu_jax.report.svg import COLOUR, draw

_RIGHT_RGB, _WRONG_RGB = (58, 126, 200), (216, 86, 60)  # legible on white and on near-black


def confusion_figure(confusion: Int[np.ndarray, "Y Y"], labels: Sequence[str]) -> str:
  """The confusion matrix: right answers in blue, mistakes in red, strength = share of the row.

  Up to 25 classes every cell that is not zero carries its count; beyond 90 the labels are left out.
  """
  num_classes = len(confusion)
  cell = float(np.clip(700 / num_classes, 1.5, 46))
  font = min(11.0, 0.78 * cell)
  named = cell >= 7.5
  names = [label if len(label) <= 26 else label[:25] + "…" for label in labels]
  margin = 10 + (font * 0.58 * max(map(len, names)) if named else 0)
  side = cell * num_classes
  width, height = margin + side + 8, side + margin + 8

  def paint(figure: Figure) -> None:
    axes = figure.add_axes((margin / width, margin / height, side / width, side / height))
    axes.imshow(confusion_colours(confusion), interpolation="none", aspect="auto")
    axes.axvspan(-0.5, num_classes - 0.5, color=COLOUR["soft"], zorder=-1)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    for edge in np.arange(num_classes + 1) - 0.5 if cell >= 7.5 else ():
      axes.axhline(edge, color=COLOUR["card"], linewidth=min(2, cell / 12))
      axes.axvline(edge, color=COLOUR["card"], linewidth=min(2, cell / 12))
    axes.set_xticks(range(num_classes) if named else [], names if named else [], rotation=90, fontsize=font)
    axes.set_yticks(range(num_classes) if named else [], names if named else [], fontsize=font)
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


def _paint_counts(axes: Axes, confusion: Int[np.ndarray, "Y Y"], size: float) -> None:
  opacity = confusion_colours(confusion)[:, :, 3]
  for row, column in zip(*np.nonzero(confusion), strict=True):
    colour = "#ffffff" if opacity[row, column] > 0.6 else COLOUR["ink"]
    text = str(confusion[row, column])
    axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)
