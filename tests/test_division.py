"""How clips are divided: no source on both sides, every class trained, folds that partition, few moves."""

import pathlib
from collections import Counter, defaultdict

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vu_jax.data.listing.division import (
  check_groups,
  divide,
  divide_by_fold,
  divide_by_group,
  group_by_pattern,
  hold_out,
)
from vu_jax.data.listing.folders import Clip
from vu_jax.errors import UserError

SEEDS = st.integers(0, 99)
# Class -> size of each of its sources; a source has clips of one class only.
OWN_SOURCES = st.dictionaries(
  st.sampled_from("abcd"), st.lists(st.integers(1, 6), min_size=2, max_size=9), min_size=1, max_size=4
)
# Clips as (class, person); a person may be in any class.
SHARED_SOURCES = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 7)), min_size=4, max_size=60)


def clip(name: str, label: str, group: str = "", split: str = "") -> Clip:
  return Clip(f"{label}/{name}", pathlib.Path(), label, split, group=group)


def own(sizes: dict[str, list[int]]) -> list[Clip]:
  return [
    clip(f"{source}_{n}", label, f"{label}{source}")
    for label, counts in sizes.items()
    for source, count in enumerate(counts)
    for n in range(count)
  ]


def shared(pairs: list[tuple[str, int]]) -> list[Clip]:
  """Clips of classes that at least two persons play."""
  persons = defaultdict(set)
  for label, person in pairs:
    persons[label].add(person)
  return [clip(str(n), label, f"p{person}") for n, (label, person) in enumerate(pairs) if len(persons[label]) > 1]


def splits_of(clips: list[Clip], key: str) -> dict[str, set[str]]:
  found = defaultdict(set)
  for one in clips:
    found[getattr(one, key)].add(one.split)
  return found


def moved(before: list[Clip], after: list[Clip]) -> int:
  """Number of sources that changed sides."""
  place = {one.id: one.split for one in after}
  return len({one.group or one.id for one in before if place[one.id] != one.split})


@settings(max_examples=30)
@given(clips=OWN_SOURCES.map(own) | SHARED_SOURCES.map(shared), test=st.floats(0.01, 0.6), seed=SEEDS)
def test_fractions_keep_sources_whole_and_train_every_class(clips: list[Clip], test: float, seed: int):
  """No source is on two sides, every class is trained, and the order of the clips plays no role."""
  divided = divide(clips, test_frac=test, validation_frac=0.2, seed=seed)
  assert [one.id for one in divided] == [one.id for one in clips]
  assert all(len(splits) == 1 for splits in splits_of(divided, "group").values())
  assert all("train" in splits for splits in splits_of(divided, "label").values())
  assert divided == divide(clips[::-1], test_frac=test, validation_frac=0.2, seed=seed)[::-1]


@given(sizes=OWN_SOURCES, test=st.floats(0.01, 0.6), seed=SEEDS)
def test_every_class_is_tested_where_sources_are_its_own(sizes: dict[str, list[int]], test: float, seed: int):
  """With two sources or more a class has test clips, and misses its share by less than its largest source."""
  divided = divide(own(sizes), test_frac=test, validation_frac=0, seed=seed)
  for label, counts in sizes.items():
    num_test = sum(one.split == "test" for one in divided if one.label == label)
    assert 0 < num_test < sum(counts)
    assert abs(num_test - test * sum(counts)) <= max(counts) + 0.5


@given(counts=st.lists(st.integers(2, 30), min_size=1, max_size=4), test=st.floats(0.01, 0.5), seed=SEEDS)
def test_single_clips_meet_their_fractions(counts: list[int], test: float, seed: int):
  """Without groups every class gives the rounded share, but at least one clip, and keeps at least one."""
  clips = [clip(str(n), "abcd"[c]) for c, count in enumerate(counts) for n in range(count)]
  divided = divide(clips, test_frac=test, validation_frac=0.25, seed=seed)
  for c, count in enumerate(counts):
    found = Counter(one.split for one in divided if one.label == "abcd"[c])
    assert found["test"] == min(max(1, round(test * count)), count - 1)
    assert found["validation"] == min(round(0.25 * count), count - 1 - found["test"])


@settings(max_examples=30)
@given(clips=OWN_SOURCES.map(own) | SHARED_SOURCES.map(shared), folds=st.integers(2, 5), seed=SEEDS)
def test_folds_partition_the_clips(clips: list[Clip], folds: int, seed: int):
  """Every clip is tested in exactly one fold, and no source is on two sides of any."""
  tested: Counter[str] = Counter()
  for fold in range(1, folds + 1):
    try:
      divided = divide_by_fold(clips, folds=folds, fold=fold, validation_frac=0.2, seed=seed)
    except UserError:
      continue  # a fold without a source: it tests nothing
    assert all(len(splits) == 1 for splits in splits_of(divided, "group").values())
    tested.update(one.id for one in divided if one.split == "test")
  assert tested == Counter(one.id for one in clips)


@settings(max_examples=30)
@given(sizes=OWN_SOURCES, folds=st.integers(2, 5), seed=SEEDS)
def test_every_class_is_trained_in_every_fold(sizes: dict[str, list[int]], folds: int, seed: int):
  """The sources of a class are spread; with as many as folds, every fold tests the class."""
  assume(any(len(counts) >= folds for counts in sizes.values()))
  for fold in range(1, folds + 1):
    divided = divide_by_fold(own(sizes), folds=folds, fold=fold, validation_frac=0, seed=seed)
    for label, splits in splits_of(divided, "label").items():
      assert "train" in splits
      assert "test" in splits or len(sizes[label]) < folds


@settings(max_examples=30)
@given(num_persons=st.integers(2, 12), classes=st.integers(1, 4), folds=st.integers(2, 4), seed=SEEDS)
def test_persons_who_play_all_classes_are_spread(num_persons: int, classes: int, folds: int, seed: int):
  """As in KTH: every person in every class; folds hold equal numbers of persons, and train every class."""
  assume(num_persons >= folds)
  clips = [clip(f"{p}", label, f"p{p}") for label in "abcd"[:classes] for p in range(num_persons)]
  for fold in range(1, folds + 1):
    divided = divide_by_fold(clips, folds=folds, fold=fold, validation_frac=0, seed=seed)
    persons = {one.group for one in divided if one.split == "test"}
    assert num_persons // folds <= len(persons) <= -(-num_persons // folds)


def test_a_class_in_one_fold_is_spread():
  """Two persons who alone play class b never share a fold, wherever the hash puts them."""
  clips = [clip(f"{p}", "a", f"p{p}") for p in range(12)] + [clip(f"{p}", "b", f"p{p}") for p in range(2)]
  for seed in range(40):
    for fold in (1, 2):
      divided = divide_by_fold(clips, folds=2, fold=fold, validation_frac=0, seed=seed)
      assert {one.split for one in divided if one.label == "b"} == {"train", "test"}


@settings(max_examples=30)
@given(num=st.integers(3, 30), size=st.integers(1, 4), folds=st.integers(2, 6), seed=SEEDS)
def test_another_source_moves_few(num: int, size: int, folds: int, seed: int):
  """One more source of equal size changes the side of two at most by fractions, and one per border by folds."""
  before, after = own({"a": [size] * num}), own({"a": [size] * (num + 1)})
  by_frac = [divide(clips, test_frac=0.3, validation_frac=0.2, seed=seed) for clips in (before, after)]
  assert moved(*by_frac) <= 3  # a border each of test and validation, and one that makes room
  assume(num >= folds)
  changed = [
    moved(*(divide_by_fold(c, folds=folds, fold=f, validation_frac=0, seed=seed) for c in (before, after)))
    for f in range(1, folds + 1)
  ]
  assert max(changed) <= 2
  assert sum(changed) <= 2 * (folds - 1)  # each source that moves leaves a fold and joins another


def test_one_group_is_left_out():
  """The named group is the test split; validation is taken from the others, whole."""
  clips = [clip(f"{p}_{n}", "a", f"p{p}") for p in range(5) for n in range(2)]
  divided = divide_by_group(clips, test_group="p3", validation_frac=0.25, seed=0)
  assert {one.group for one in divided if one.split == "test"} == {"p3"}
  assert Counter(one.split for one in divided) == {"train": 6, "test": 2, "validation": 2}
  with pytest.raises(UserError, match=r"leave_out='p9' is no group; there are p0, p1, p2, p3, p4$"):
    divide_by_group(clips, test_group="p9", validation_frac=0, seed=0)
  with pytest.raises(UserError, match="set group_pattern or group_column"):
    divide_by_group([clip("0", "a")], test_group="p9", validation_frac=0, seed=0)


def test_validation_is_taken_from_training_only():
  """Official test clips stay; a quarter of each class's training clips moves, group by group."""
  clips = [clip(f"{g}_{n}", "a", f"g{g}", "test" if g == 0 else "train") for g in range(9) for n in range(2)]
  held = hold_out(clips, 0.25, seed=0)
  assert Counter(one.split for one in held) == {"test": 2, "train": 12, "validation": 4}
  assert all(len(splits) == 1 for splits in splits_of(held, "group").values())


def test_groups_are_read_from_ids():
  """The first group of the expression is the source; what it cannot read is said with the first id."""
  clips = [clip("person01_walking.avi", "a"), clip("person12_x.avi", "a")]
  assert [one.group for one in group_by_pattern(clips, r"(person\d+)_")] == ["person01", "person12"]
  for pattern, message in {
    "(": "is not a regular expression",
    "person": "has no group",
    r"(person0\d)": r"finds no source in 1 clip ids \(first: a/person12_x.avi\)",
  }.items():
    with pytest.raises(UserError, match=message):
      group_by_pattern(clips, pattern)


def test_what_cannot_be_divided_is_said():
  """Bad folds, a class of one source, and a source in two splits are explained in one line."""
  clips = [clip("0", "a", "g"), clip("1", "a", "g"), clip("2", "b", "h"), clip("3", "b", "i")]
  one_source = r"all clips of class 'a' are of one group, 'g'; a class needs at least 2"
  with pytest.raises(UserError, match=one_source):
    divide(clips, test_frac=0.2, validation_frac=0, seed=0)
  with pytest.raises(UserError, match=one_source):
    divide_by_fold(clips, folds=2, fold=1, validation_frac=0, seed=0)
  for folds, fold in ((1, 1), (3, 4), (3, 0)):
    with pytest.raises(UserError, match=f"fold={fold} of folds={folds}: folds must be at least 2"):
      divide_by_fold(clips[2:], folds=folds, fold=fold, validation_frac=0, seed=0)
  empty = ({1, 2, 3} - {fold for fold in (1, 2, 3) if _tests_something(clips[2:], fold)}).pop()
  with pytest.raises(UserError, match=f"fold {empty} of 3 holds none of the 2 sources; set fewer folds"):
    divide_by_fold(clips[2:], folds=3, fold=empty, validation_frac=0, seed=0)
  with pytest.raises(UserError, match=r"t.csv: group 'g' is in two splits, train \(a/0\) and test \(a/1\)"):
    check_groups([clip("0", "a", "g", "train"), clip("1", "a", "g", "test")], "t.csv")


def _tests_something(clips: list[Clip], fold: int) -> bool:
  try:
    return bool(divide_by_fold(clips, folds=3, fold=fold, validation_frac=0, seed=0))
  except UserError:
    return False
