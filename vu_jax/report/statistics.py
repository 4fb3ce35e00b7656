"""Statistics of a classifier's answers, each a pure function of counts or probabilities."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

Z_95 = 1.959964  # two-sided 95 % quantile of the normal distribution


@dataclass(frozen=True)
class ClassScore:
  """How one class fares; a ratio whose denominator is zero is NaN, it was not measured."""

  index: int
  support: int  # clips of this class
  precision: float
  recall: float
  f1: float
  recall_interval: tuple[float, float]  # Wilson, 95 %


@dataclass(frozen=True)
class Confusion:
  """`count` clips of class `true` were taken for class `predicted`: `share` of all clips of class `true`."""

  true: int
  predicted: int
  count: int
  share: float


@dataclass(frozen=True)
class CalibrationBin:
  """Clips whose confidence (largest probability) lies in (low, high]; means are NaN in an empty bin."""

  low: float
  high: float
  count: int
  right: int
  confidence: float  # mean over the bin's clips
  accuracy: float


def wilson_interval(successes: int | float, n: int, z: float = Z_95) -> tuple[float, float]:
  """Confidence interval of a proportion that stays within 0..1 and is honest for few clips and near 0 or 1.

  Source: Wilson 1927: (p + z^2/2n ± z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n) with p = successes / n.

  Args:
    successes: clips that were right, 0..n.
    n: clips, >= 0; nothing is known from none: (0, 1).
    z: quantile; 1.96 gives 95 %.

  Returns:
    Low and high end, fractions.
  """
  if n == 0:
    return 0.0, 1.0
  p, scale = successes / n, 1 + z**2 / n
  centre = (p + z**2 / (2 * n)) / scale
  half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / scale
  return max(0.0, centre - half), min(1.0, centre + half)


def per_class(confusion: Int[np.ndarray, "Y Y"]) -> list[ClassScore]:
  """Precision, recall and F1 of every class, by class; rows are true, columns predicted classes."""
  right = confusion.diagonal().astype(np.float64)
  support, predicted = confusion.sum(axis=1, dtype=np.float64), confusion.sum(axis=0, dtype=np.float64)
  return [
    ClassScore(
      index=y,
      support=int(support[y]),
      precision=_ratio(right[y], predicted[y]),
      recall=_ratio(right[y], support[y]),
      f1=_ratio(2 * right[y], support[y] + predicted[y]),
      recall_interval=wilson_interval(right[y], int(support[y])),
    )
    for y in range(len(confusion))
  ]


def most_confused(confusion: Int[np.ndarray, "Y Y"], limit: int) -> list[Confusion]:
  """The wrong answers given most often, at most `limit`, by count and then by share of the true class."""
  share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
  wrong = [
    Confusion(int(t), int(p), int(confusion[t, p]), float(share[t, p]))
    for t, p in zip(*np.nonzero(confusion), strict=True)
    if t != p
  ]
  return sorted(wrong, key=lambda pair: (-pair.count, -pair.share))[:limit]


def calibration(
  probabilities: Float[np.ndarray, "N Y"], labels: Int[np.ndarray, " N"], num_bins: int = 10
) -> tuple[list[CalibrationBin], float]:
  """Does a confidence of 80 % mean right in 80 % of the clips?

  Source: Guo et al. 2017, equation 3: ECE = sum over equal-width bins of (count / N) |accuracy - confidence|.

  Returns:
    The bins from 0 to 1, and the expected calibration error as a fraction, 0 = perfectly calibrated.
  """
  confidence = probabilities.max(axis=1)
  right = probabilities.argmax(axis=1) == labels
  which = np.clip(np.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
  bins, error = [], 0.0
  for k in range(num_bins):
    inside = which == k
    count, hits, mass = int(inside.sum()), int(right[inside].sum()), float(confidence[inside].sum())
    bins.append(CalibrationBin(k / num_bins, (k + 1) / num_bins, count, hits, _ratio(mass, count), _ratio(hits, count)))
    error += abs(hits - mass)
  return bins, error / max(1, len(labels))


def smooth(values: Float[np.ndarray, " n"], half_width: int) -> Float[np.ndarray, " n"]:
  """Mean over a window of 2 half_width + 1 values centred on each (shorter at the ends, NaN left out).

  Centred, because a trailing average would show every change too late.
  """
  half_width = min(half_width, (len(values) - 1) // 2)
  if half_width < 1:
    return values
  window, known = np.ones(2 * half_width + 1), np.isfinite(values)
  total = np.convolve(np.where(known, values, 0), window, mode="same")
  weight = np.convolve(known.astype(np.float64), window, mode="same")
  return np.where(known, total / np.maximum(weight, 1), np.nan)


def _ratio(part: int | float, whole: int | float) -> float:
  return float(part / whole) if whole > 0 else float("nan")
