"""Metrics by hand, and what makes them exact: a mask is a subset, and merged parts are the whole."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from vu_jax.metrics.classification import confusion, in_top_k, macro
from vu_jax.metrics.sums import divide, masked, merge


def test_top_k_by_hand():
  """The label's score is the 2nd, 1st and 3rd highest of three."""
  logits = jnp.array([[3.0, 2.0, 1.0], [0.0, 5.0, 1.0], [0.3, 0.2, 0.1]])
  label = jnp.array([1, 1, 2])
  for k, right in ((1, [False, True, False]), (2, [True, True, False]), (3, [True, True, True])):
    np.testing.assert_array_equal(in_top_k(logits, label, k), right)


def test_ties_and_nans_count_against_the_label():
  """A network that says the same for all classes, or nothing at all, is never right."""
  same, broken = jnp.zeros((2, 4)), jnp.full((2, 4), jnp.nan)
  label = jnp.array([0, 3])
  for k in (1, 2, 3):
    assert not in_top_k(same, label, k).any()
  for k in (1, 4, 5):
    assert not in_top_k(broken, label, k).any()
  assert in_top_k(same, label, 4).all()


def test_confusion_by_hand():
  """Rows are true classes, columns predicted ones; the last clip is padding."""
  logits = jnp.eye(3)[jnp.array([0, 1, 1, 2, 0])]
  label, mask = jnp.array([0, 0, 1, 2, 2]), jnp.array([1.0, 1, 1, 1, 0])
  np.testing.assert_array_equal(confusion(logits, label, mask), [[1, 1, 0], [0, 1, 0], [0, 0, 1]])


def test_macro_averages_by_hand():
  """Classes 0 and 1 have 4 and 2 clips, class 2 none, class 3 one that is never found and never predicted.

  Recall: 3/4, 1/2, -, 0. Precision: 3/4, 1/1, -, 0. F1: 3/4, 2/3, -, 0. Means over the three classes there are.
  """
  counts = np.array([[3, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]], float)
  found = macro(counts)
  assert found["recall_macro"] == found["mean_per_class"] == pytest.approx((3 / 4 + 1 / 2 + 0) / 3)
  assert found["precision_macro"] == pytest.approx((3 / 4 + 1 + 0) / 3)
  assert found["f1_macro"] == pytest.approx((3 / 4 + 2 / 3 + 0) / 3)
  assert np.isnan(macro(np.zeros((3, 3)))["f1_macro"])


def test_a_masked_sum_is_the_sum_of_the_subset():
  """Padding counts in neither part of the pair, even if its value is not a number."""
  values, mask = jnp.array([1.0, jnp.nan, 3.0, jnp.inf]), jnp.array([1.0, 0, 1, 0])
  assert tuple(map(float, masked(values, mask))) == (4.0, 2.0)


def test_merged_halves_are_the_whole():
  """Sums and weights are added key by key, so batches of unequal size give the mean over clips, not over batches."""
  values, mask = jnp.arange(10.0), jnp.array([1.0, 1, 0, 1, 1, 1, 1, 0, 1, 1])
  parts = [slice(0, 3), slice(3, 4), slice(4, 10)]
  merged = merge({"x": masked(values[part], mask[part])} for part in parts)
  assert divide(merged)["x"] == pytest.approx((45 - 2 - 7) / 8)
  with pytest.raises(ValueError, match="no batches"):
    merge([])


def test_dividing_by_nothing_gives_nan():
  """An empty split has no accuracy, and arrays such as the confusion matrix are not divided."""
  totals: dict[str, Any] = {"top1": (jnp.zeros(()), jnp.zeros(())), "loss": (6.0, 4.0), "confusion": (np.eye(2), 2.0)}
  result = divide(totals)
  assert set(result) == {"top1", "loss"}
  assert np.isnan(result["top1"])
  assert result["loss"] == 1.5
