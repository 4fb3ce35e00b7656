"""REPORT: intervals, paired differences and corrected p values, by hand and against scipy."""

import math

import numpy as np
import pytest
from scipy import stats

from vu_jax.report.paired import compare_answers, compare_seeds, holm, interval

SAMPLES = [np.random.default_rng(n).normal(0.9, 0.03, n) for n in (2, 3, 10, 40)]


def close(a: tuple[float, float] | None, b: tuple[float, float]) -> None:
  assert a is not None
  np.testing.assert_allclose(a, b, rtol=1e-7)


def test_t_interval_by_hand():
  """1, 2, 3: mean 2, s 1, standard error 1/sqrt(3); t of 0.975 with 2 degrees of freedom is 4.302653 (tables)."""
  close(interval(np.array([1.0, 2.0, 3.0])), (2 - 4.30265273 / math.sqrt(3), 2 + 4.30265273 / math.sqrt(3)))


@pytest.mark.parametrize("values", SAMPLES, ids=len)
def test_t_interval_is_that_of_scipy(values: np.ndarray):
  close(interval(values), stats.ttest_1samp(values, 0).confidence_interval(0.95))


def test_t_interval_covers_the_mean_in_95_of_100_samples():
  rng = np.random.default_rng(0)
  ends = np.array([interval(rng.normal(size=4)) for _ in range(2000)])
  assert ((ends[:, 0] < 0) & (ends[:, 1] > 0)).mean() == pytest.approx(0.95, abs=0.015)


def test_bootstrap_interval_is_near_the_t_interval_of_many_values_and_never_changes():
  values = SAMPLES[-1]
  found, near = interval(values, "bootstrap"), interval(values)
  assert found is not None
  assert near is not None
  assert found == interval(values, "bootstrap")
  np.testing.assert_allclose(found, near, atol=0.1 * (near[1] - near[0]))


@pytest.mark.parametrize("kind", ["t", "bootstrap"])
def test_one_value_or_equal_ones_have_no_interval(kind):
  assert interval(np.array([0.9]), kind) is None
  assert interval(np.array([0.9, 0.9, 0.9]), kind) is None


def test_paired_difference_by_hand():
  """Differences -1, -2, -3: mean -2, t = -2 sqrt(3), of which p = 1 - sqrt(12 / 14) with 2 degrees of freedom."""
  found = compare_seeds(np.array([1.0, 1.0, 1.0]), np.array([2.0, 3.0, 4.0]))
  assert found is not None
  assert (found.mean, found.pairs, found.over) == (-2, 3, "seeds")
  assert found.p == pytest.approx(1 - math.sqrt(12 / 14))
  close(found.interval, (-2 - 4.30265273 / math.sqrt(3), -2 + 4.30265273 / math.sqrt(3)))


@pytest.mark.parametrize("values", SAMPLES, ids=len)
def test_paired_difference_is_that_of_scipy(values: np.ndarray):
  baseline = np.random.default_rng(9).normal(0.88, 0.02, len(values))
  found, theirs = compare_seeds(values, baseline), stats.ttest_rel(values, baseline)
  assert found is not None
  assert found.p == pytest.approx(theirs.pvalue, rel=1e-9)
  close(found.interval, theirs.confidence_interval(0.95))


def test_differences_that_do_not_tell_have_no_p_value():
  """One seed; or two equal differences, equal but for rounding: 0.97 - 0.93 and 0.98 - 0.94."""
  for variant, baseline in (([0.9], [0.8]), ([0.97, 0.98], [0.93, 0.94])):
    found = compare_seeds(np.array(variant), np.array(baseline))
    assert found is not None
    assert (found.interval, found.p) == (None, None)
    assert found.mean == pytest.approx(variant[0] - baseline[0])
  assert compare_seeds(np.array([]), np.array([])) is None


def answers(both: int, gained: int, lost: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
  rows = [(True, True)] * both + [(True, False)] * gained + [(False, True)] * lost + [(False, False)] * neither
  variant, baseline = np.array(rows).T
  return variant, baseline


def test_mcnemar_by_hand():
  """Of 6 clips that one alone gets right, 1 is the variant's: p = 2 (1 + 6) / 2^6; 5 fewer of 20 are right.

  With half a clip more in each of four cells: 1.5 and 5.5 of 22.
  """
  found = compare_answers(*answers(10, 1, 5, 4))
  assert found is not None
  assert (found.mean, found.pairs, found.over) == (-0.2, 20, "clips")
  assert found.p == pytest.approx(14 / 64)
  half = 1.95996398 * math.sqrt(7 - 16 / 22) / 22
  close(found.interval, (-4 / 22 - half, -4 / 22 + half))


@pytest.mark.parametrize("counts", [(50, 3, 17, 30), (0, 40, 20, 0), (99, 0, 1, 0), (7, 4, 4, 7)])
def test_mcnemar_is_scipys_binomial_test(counts: tuple[int, int, int, int]):
  found = compare_answers(*answers(*counts))
  assert found is not None
  assert found.p == pytest.approx(stats.binomtest(counts[1], counts[1] + counts[2]).pvalue)


def test_the_same_answers_are_no_difference():
  found = compare_answers(*answers(3, 0, 0, 5))
  assert found is not None
  assert (found.mean, found.p) == (0, 1)


def test_holm_by_hand():
  """Sorted 0.01, 0.03, 0.04: times 3, 2, 1 = 0.03, 0.06, 0.04, and the last may not be below 0.06."""
  assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
  assert holm([0.5, 0.9]) == [1, 1]
  assert holm([None, 0.02, None]) == [None, 0.02, None]
  assert holm([]) == []
