"""Statistics of an ablation: means with intervals, paired differences, and p values of many comparisons.

Every function is a function of arrays. What cannot be known is None, not a number that looks like one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Bool, Float
from scipy import special

Interval: TypeAlias = tuple[float, float]
Kind: TypeAlias = Literal["t", "bootstrap"]
LEVEL = 0.95
EVERYWHERE: Interval = (-math.inf, math.inf)
_RESAMPLES = 10_000


@dataclass(frozen=True)
class Comparison:
  """How one variant differs from the baseline: mean of (variant - baseline) over pairs.

  Fields:
    mean: of the differences.
    interval: 95 %; None where the differences do not tell.
    p: of the hypothesis that there is no difference, two-sided; None where it is not known.
    pairs: number of pairs. over: what they are: "seeds" or "clips" of one seed.
    method: in words.
  """

  mean: float
  interval: Interval | None
  p: float | None
  pairs: int
  over: Literal["seeds", "clips"]
  method: str


def interval(values: Float[np.ndarray, " n"], kind: Kind = "t", within: Interval = EVERYWHERE) -> Interval | None:
  """95 % interval of the mean of independent values, such as the scores of several seeds.

  Args:
    values: of one variant.
    kind: "t": mean ± t s / sqrt(n) with n - 1 degrees of freedom, for values that are about normal; "bootstrap": BCa
      (Efron 1987) from 10,000 resamples, the same ones every time; too narrow for fewer than about ten values.
    within: what the values cannot leave, and so neither does the interval.

  Returns:
    Low and high end; None for fewer than two values, or values that are all equal: their spread is not known.
  """
  if len(values) < 2 or _all_equal(values):
    return None
  ends = _bootstrap(values) if kind == "bootstrap" else _t_interval(values)
  return (max(ends[0], within[0]), min(ends[1], within[1])) if ends else None


def interval_words(kind: Kind) -> str:
  """How a table names the interval."""
  return "t" if kind == "t" else "BCa bootstrap"


def compare_seeds(
  variant: Float[np.ndarray, " n"],
  baseline: Float[np.ndarray, " n"],
  kind: Kind = "t",
  within: Interval = EVERYWHERE,
) -> Comparison | None:
  """Scores of the same seeds, in the same order, `within` a range; the p value is that of the paired t-test.

  None without a pair. One pair, or differences that are all equal, have neither interval nor p value.
  """
  differences = variant - baseline
  n = len(differences)
  if not n:
    return None
  mean = float(differences.mean())
  if n < 2 or _all_equal(differences):
    return Comparison(mean, None, None, n, "seeds", "one seed" if n == 1 else "equal differences")
  t = mean / _standard_error(differences)
  p = float(2 * special.stdtr(n - 1, -abs(t)))
  method = f"paired t-test, {interval_words(kind)} interval"
  low, high = within
  return Comparison(mean, interval(differences, kind, (low - high, high - low)), p, n, "seeds", method)


def compare_answers(variant: Bool[np.ndarray, " n"], baseline: Bool[np.ndarray, " n"]) -> Comparison | None:
  """Which clips two runs answer rightly, in the same order: the share that the variant gains.

  It says whether these two trained networks differ on such clips, and nothing about other seeds. The p value is that of
  the exact test of McNemar (1947): of the clips that only one of them gets right, half should be each one's. The
  interval is Wald's after half a clip is added to each of the four counts (Agresti & Min 2005, section 3).
  """
  n = len(variant)
  if not n:
    return None
  gained, lost = int((variant & ~baseline).sum()), int((baseline & ~variant).sum())
  p = min(1.0, 2 * float(special.bdtr(min(gained, lost), gained + lost, 0.5)))
  more, fewer, total = gained + 0.5, lost + 0.5, n + 2
  centre = (more - fewer) / total
  half = _normal_quantile() * math.sqrt(more + fewer - (more - fewer) ** 2 / total) / total
  ends = max(-1.0, centre - half), min(1.0, centre + half)
  return Comparison((gained - lost) / n, ends, p, n, "clips", "exact McNemar test, Agresti-Min interval")


def holm(p_values: Sequence[float | None]) -> list[float | None]:
  """p values of several comparisons, corrected: below 0.05 each, the chance of any false finding is below 0.05.

  Source: Holm 1979: of m values in ascending order, the i-th (from 0) is multiplied by m - i, and none may be below one
  before it. Values that are not known are no comparisons, and stay unknown.
  """
  known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
  corrected: list[float | None] = [None] * len(p_values)
  largest = 0.0
  for rank, (p, i) in enumerate(known):
    largest = max(largest, min(1.0, (len(known) - rank) * p))
    corrected[i] = largest
  return corrected


def _t_interval(values: Float[np.ndarray, " n"]) -> Interval:
  half = _t_quantile(len(values) - 1) * _standard_error(values)
  return float(values.mean() - half), float(values.mean() + half)


def _bootstrap(values: Float[np.ndarray, " n"]) -> Interval | None:
  from scipy import stats  # takes a second

  found = stats.bootstrap(
    (values,), np.mean, n_resamples=_RESAMPLES, confidence_level=LEVEL, method="BCa", rng=np.random.default_rng(0)
  ).confidence_interval
  return (float(found.low), float(found.high)) if math.isfinite(found.low + found.high) else None


def _standard_error(values: Float[np.ndarray, " n"]) -> float:
  return float(values.std(ddof=1)) / math.sqrt(len(values))


def _t_quantile(freedom: int) -> float:
  return float(special.stdtrit(freedom, (1 + LEVEL) / 2))


def _normal_quantile() -> float:
  return float(special.ndtri((1 + LEVEL) / 2))


def _all_equal(values: Float[np.ndarray, " n"]) -> bool:
  """To rounding: differences of shares such as 0.97 - 0.93 and 0.98 - 0.94 are."""
  return bool(np.ptp(values) <= 1e-9 * max(1.0, float(np.abs(values).max())))
