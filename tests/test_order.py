"""ORDER: what a stream holds follows from seed and position alone; counts by hand, and properties of any sizes."""

from collections import Counter
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vu_jax.data.order import (
  Stream,
  balanced,
  block_counts,
  choose_order,
  classes_by_clips,
  groups_of,
  mixture,
  shuffled,
  subset,
)
from vu_jax.errors import UserError

seeds = st.integers(0, 2**31)
sizes = st.lists(st.integers(1, 9), min_size=1, max_size=7)


def labels_of(class_sizes: list[int]) -> np.ndarray:
  """Labels 0, 1, ... so often, mixed."""
  return np.random.default_rng(0).permutation(np.repeat(np.arange(len(class_sizes)), class_sizes))


def groups(class_sizes: list[int]) -> list[np.ndarray]:
  labels = labels_of(class_sizes)
  return list(groups_of(labels, np.arange(len(labels))))


@given(st.integers(1, 60), seeds)
def test_an_epoch_holds_everything_once(size: int, seed: int):
  """Three epochs: each a permutation; read backwards, the same."""
  row = [shuffled(p, size, seed) for p in range(3 * size)]
  for epoch in range(3):
    assert sorted(row[epoch * size : (epoch + 1) * size]) == list(range(size))
  assert [shuffled(p, size, seed) for p in reversed(range(3 * size))] == row[::-1]


def test_epochs_and_seeds_differ():
  """Forty entries keep their places in the next epoch, or with another seed, about once, not more than 6 times."""
  first, second = ([shuffled(e * 40 + p, 40, 5) for p in range(40)] for e in (0, 1))
  other = [shuffled(p, 40, 6) for p in range(40)]
  assert sum(a == b for a, b in zip(first, second, strict=True)) <= 6
  assert sum(a == b for a, b in zip(first, other, strict=True)) <= 6


def test_a_long_row_is_shuffled_without_being_held():
  """Of 20,000 entries, the first 20,000 positions hold each once; neighbours are strangers."""
  row = np.array([shuffled(p, 20_000, 3) for p in range(20_000)])
  assert len(set(row.tolist())) == 20_000
  assert abs(np.corrcoef(row[:-1], row[1:])[0, 1]) < 0.05


def test_small_permutations_are_all_drawn():
  """Three entries have six orders; in 3,000 epochs each comes 500 times, within 6 standard deviations of 20."""
  found = Counter(tuple(shuffled(e * 3 + p, 3, 1) for p in range(3)) for e in range(3000))
  assert len(found) == 6
  assert max(abs(n - 500) for n in found.values()) < 120


@given(sizes, seeds)
def test_balanced_is_even_over_classes_and_within_them(class_sizes: list[int], seed: int):
  """After n rounds each class has come n times, and its clips equally often or once more."""
  found, rounds = groups(class_sizes), 23
  drawn = Counter(balanced(found, seed, p) for p in range(rounds * len(found)))
  for members in found:
    counts = [drawn[i] for i in members]
    assert sum(counts) == rounds
    assert max(counts) - min(counts) <= 1


@given(st.lists(st.integers(1, 9), min_size=2, max_size=7), st.integers(1, 4), st.data(), seeds)
def test_classes_by_clips(class_sizes: list[int], clips: int, data: st.DataObject, seed: int):
  """Every batch: P different classes, K clips of each, different ones where the class has K; else evenly repeated."""
  found = groups(class_sizes)
  classes = data.draw(st.integers(1, len(found)))
  labels = labels_of(class_sizes)
  seen: Counter[int] = Counter()
  for batch in range(12):
    at = [classes_by_clips(found, classes, clips, seed, batch * classes * clips + i) for i in range(classes * clips)]
    assert Counter(labels[at].tolist()) == dict.fromkeys(labels[at].tolist(), clips)
    assert len(set(labels[at])) == classes
    for y in set(labels[at].tolist()):
      counts = Counter(i for i in at if labels[i] == y)
      size = class_sizes[y]
      assert len(counts) == min(clips, size)
      assert max(counts.values()) == -(-clips // size)
    seen.update(set(labels[at].tolist()))
  if len(found) % classes == 0:
    assert max(seen.values()) - min(seen[y] for y in range(len(found))) <= 1


def test_classes_by_clips_uses_all_clips():
  """A class of 6 clips, 2 at a time, is through after three batches, then through again in another order."""
  found = groups([6])
  drawn = [classes_by_clips(found, 1, 2, 3, p) for p in range(12)]
  assert sorted(drawn[:6]) == sorted(drawn[6:]) == list(range(6))
  assert drawn[:6] != drawn[6:]


def test_blocks_by_hand():
  """Half and half are blocks of 2; 0.7, 0.2, 0.1 are blocks of 10; thirds get 334, 333 and 333 of 1,000."""
  assert block_counts([5, 5]) == [1, 1]
  assert block_counts([0.7, 0.2, 0.1]) == [7, 2, 1]
  assert block_counts([1, 1, 1]) == [334, 333, 333]
  assert block_counts([1, 0]) == [1, 0]
  for wrong in ([0.0, 0.0], [1.0, -1.0], [1.0, 1e-6]):
    with pytest.raises(UserError, match="weights"):
      block_counts(wrong)


def test_a_mixture_keeps_its_shares_and_its_sources_epochs():
  """Of 60 positions, 36 belong to a source of 6 clips and 24 to one of 4: six epochs of each."""
  drawn = [mixture([6, 4], [0.6, 0.4], 7, p) for p in range(60)]
  assert Counter(drawn) == dict.fromkeys(range(10), 6)
  for block in range(12):
    assert sum(i < 6 for i in drawn[block * 5 : block * 5 + 5]) == 3
  first = [i for i in drawn if i < 6][:6]
  assert len(set(first)) >= 3  # an epoch of a source may be turned within a block, but is not repeated


@given(sizes, seeds, st.floats(0.01, 1), st.floats(0.01, 1))
def test_fractions_are_nested(class_sizes: list[int], seed: int, one: float, other: float):
  """A smaller fraction lies inside of a larger one; each class gives its share, rounded up; all of it is all."""
  labels = labels_of(class_sizes)
  small, large = (set(subset(labels, 0, f, seed).tolist()) for f in sorted((one, other)))
  assert small <= large
  for y, size in enumerate(class_sizes):
    share = sum(labels[i] == y for i in small)
    assert min(one, other) * size - 1e-6 <= share < min(one, other) * size + 1
  assert subset(labels, 0, 1.0, seed).tolist() == list(range(len(labels)))


def test_few_shots():
  """Two and four of each class are nested; another seed takes others; a class that is too small is named."""
  labels = labels_of([5, 6, 7])
  two, four = (subset(labels, k, 1.0, 0) for k in (2, 4))
  assert Counter(labels[two].tolist()) == {0: 2, 1: 2, 2: 2}
  assert set(two) < set(four)
  assert set(two) != set(subset(labels, 2, 1.0, 1))
  with pytest.raises(UserError, match=r'subset_per_class = 6: class "run" has only 5 training clips'):
    subset(labels, 6, 1.0, 0, ["run", "sit", "walk"])


def test_orders_by_name_and_too_few_classes():
  """Each rule draws from the pool only; P x K with more classes than there are is refused."""
  labels, pool = labels_of([4, 4, 4]), np.array([0, 2, 3, 5, 7, 8, 11])
  for rule in ("shuffle", "balanced", "classes_by_clips"):
    order = choose_order(rule, labels, pool, 4, 2, seed=0)
    assert {Stream(order)[p] for p in range(200)} == set(pool.tolist())
  with pytest.raises(UserError, match=r"batch_size = 8: 2 clips per class .* need 4 classes, but there are 3"):
    choose_order("classes_by_clips", labels, pool, 8, 2, seed=0)


def test_a_position_far_away_costs_nothing():
  """The ten-billionth example is computed like the first."""
  order = partial(balanced, groups([3, 5]), 0)
  assert order(10**10) in range(8)
