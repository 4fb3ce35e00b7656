"""Which clips are for training, validation and test, where the data does not say so; pure, and the same every time.

What is divided are sources: the clips of one `group`, or single clips where groups are not known. A source is never on
two sides, and every class keeps a source to train on. The place of a source hangs on a hash of seed and name, so
videos added later move few others.
"""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace

from vu_jax.data.listing.folders import Clip
from vu_jax.errors import UserError


def divide(clips: list[Clip], *, test_frac: float, validation_frac: float, seed: int) -> list[Clip]:
  """Gives every clip a split by fractions of each class, but at least one source to test and one to train.

  Sources are taken whole, so where they are large the fractions are only approached.

  Raises:
    UserError: the fractions leave nothing to train, or a class has one source only.
  """
  if test_frac + validation_frac >= 1:
    raise UserError(f"test_frac={test_frac:g} and validation_frac={validation_frac:g} must add up to less than 1")
  if test_frac:
    _check_sources(clips)
  sizes = Counter(clip.label for clip in clips)
  trained = [replace(clip, split="train") for clip in clips]
  tested = _move(
    trained, "test", {label: max(1, round(test_frac * n)) for label, n in sizes.items() if test_frac}, seed
  )
  return _move(tested, "validation", {label: round(validation_frac * n) for label, n in sizes.items()}, seed)


def divide_by_fold(clips: list[Clip], *, folds: int, fold: int, validation_frac: float, seed: int) -> list[Clip]:
  """Makes one of `folds` equal parts of the sources the test set; over all folds, every clip is tested once.

  Args:
    fold: number of the part, from 1.
    validation_frac: share of each class's other clips that is for validation.

  Raises:
    UserError: no such fold, nothing in it, or a class has one source only.
  """
  if folds < 2 or not 1 <= fold <= folds:
    raise UserError(f"fold={fold} of folds={folds}: folds must be at least 2, and fold from 1 to folds")
  _check_sources(clips)
  places = _places(clips, folds, seed)
  if fold - 1 not in places.values():
    raise UserError(f"fold {fold} of {folds} holds none of the {len(places)} sources; set fewer folds")
  split = {True: "test", False: "train"}
  return hold_out([replace(c, split=split[places[_source(c)] == fold - 1]) for c in clips], validation_frac, seed)


def divide_by_group(clips: list[Clip], *, test_group: str, validation_frac: float, seed: int) -> list[Clip]:
  """Makes one group the test set: leave one group out.

  Raises:
    UserError: no such group.
  """
  groups = sorted({clip.group for clip in clips} - {""})
  if test_group not in groups:
    known = f"there are {', '.join(groups[:10])}" + (" ..." if len(groups) > 10 else "")
    raise UserError(
      f"leave_out={test_group!r} is no group; " + (known if groups else "set group_pattern or group_column")
    )
  split = {True: "test", False: "train"}
  return hold_out([replace(clip, split=split[clip.group == test_group]) for clip in clips], validation_frac, seed)


def hold_out(clips: list[Clip], validation_frac: float, seed: int) -> list[Clip]:
  """Moves a share of each class's training clips to validation; sources stay whole."""
  sizes = Counter(clip.label for clip in clips if clip.split == "train")
  return _move(clips, "validation", {label: round(validation_frac * n) for label, n in sizes.items()}, seed)


def group_by_pattern(clips: list[Clip], pattern: str) -> list[Clip]:
  """Names the source of every clip: what the first group of a regular expression finds in its id.

  Raises:
    UserError: not a regular expression, no group in it, or ids in which it finds nothing.
  """
  try:
    regex = re.compile(pattern)
  except re.error as error:
    raise UserError(f"group_pattern={pattern!r} is not a regular expression ({error})") from None
  if not regex.groups:
    raise UserError(f"group_pattern={pattern!r} has no group; put the part that names the source in (parentheses)")
  found = [regex.search(clip.id) for clip in clips]
  without = [clip.id for clip, match in zip(clips, found, strict=True) if not (match and match.group(1))]
  if without:
    raise UserError(f"group_pattern={pattern!r} finds no source in {len(without)} clip ids (first: {without[0]})")
  return [replace(clip, group=match.group(1)) for clip, match in zip(clips, found, strict=True) if match]


def check_groups(clips: list[Clip], source: str) -> None:
  """Raises a UserError if clips of one group are in two splits; `source` is named in it."""
  first: dict[str, Clip] = {}
  for clip in clips:
    other = first.setdefault(clip.group, clip)
    if clip.group and other.split != clip.split:
      raise UserError(
        f"{source}: group {clip.group!r} is in two splits, {other.split} ({other.id}) and {clip.split} ({clip.id}); "
        "put its clips in one"
      )


def _source(clip: Clip) -> str:
  return clip.group or clip.id


def _hash(text: str, seed: int) -> bytes:
  return hashlib.sha256(f"{seed}/{text}".encode()).digest()


def _sources(clips: list[Clip], seed: int) -> dict[str, Counter[str]]:
  """Source -> its clips per class, in the order of the hashes."""
  counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
  for clip in clips:
    counts[_source(clip)][clip.label] += 1
  return {name: counts[name] for name in sorted(counts, key=lambda name: _hash(name, seed))}


def _check_sources(clips: list[Clip]) -> None:
  """Raises a UserError if all clips of a class are of one group: it could not be both trained and tested."""
  groups = defaultdict(set)
  for clip in clips:
    groups[clip.label].add(clip.group)
  for label in sorted(groups):
    if len(groups[label]) == 1 and "" not in groups[label]:
      raise UserError(
        f"all clips of class {label!r} are of one group, {groups[label].pop()!r}; a class needs at least 2, to train "
        "and to test: add clips or remove the class"
      )


def _move(clips: list[Clip], split: str, wanted: Mapping[str, int], seed: int) -> list[Clip]:
  """Moves sources from training to a split until each class has about as many clips there as wanted."""
  trained = [clip for clip in clips if clip.split == "train"]
  sources = _sources(trained, seed)
  left = Counter(clip.label for clip in trained)
  missing = Counter(wanted)
  taken = set()

  def take(name: str) -> None:
    taken.add(name)
    left.subtract(sources[name])
    missing.subtract(sources[name])

  def spares(name: str) -> bool:
    return all(left[label] > n for label, n in sources[name].items())

  for name, counts in sources.items():
    nearer = sum(abs(missing[label]) - abs(missing[label] - n) for label, n in counts.items())
    if nearer > 0 and spares(name):
      take(name)
  # Sources larger than what is wanted were passed over; a class that has nothing yet takes its smallest.
  for label in sorted(label for label, n in wanted.items() if n and missing[label] == n):
    spared = [name for name in sources if sources[name][label] and name not in taken and spares(name)]
    if missing[label] == wanted[label] and spared:  # an earlier class may have taken some of this one
      take(min(spared, key=lambda name: sources[name].total()))
  return [replace(c, split=split) if c.split == "train" and _source(c) in taken else c for c in clips]


def _places(clips: list[Clip], folds: int, seed: int) -> dict[str, int]:
  """Source -> fold from 0. Classes that share no source are cut apart, so that each is spread over the folds."""
  sources = _sources(clips, seed)
  members: defaultdict[str, list[str]] = defaultdict(list)
  stratum = _strata(sources)
  for name in sources:
    members[stratum[name]].append(name)
  place: dict[str, int] = {}
  for label, names in members.items():
    # Runs of the order of hashes: one more source moves each border by one at most. The offset keeps all classes
    # with fewer sources than folds from meeting in the first.
    offset = int.from_bytes(_hash(label, seed)[:4], "big")
    place |= {name: (i * folds // len(names) + offset) % folds for i, name in enumerate(names)}
  return _spread(place, sources, folds)


def _strata(sources: Mapping[str, Mapping[str, int]]) -> dict[str, str]:
  """Source -> the first label of all those that it is linked to by common sources."""
  parent = {label: label for counts in sources.values() for label in counts}

  def root(label: str) -> str:
    while parent[label] != label:
      parent[label] = label = parent[parent[label]]
    return label

  for counts in sources.values():
    first, *others = sorted(map(root, counts))
    parent.update(dict.fromkeys(others, first))
  return {name: root(next(iter(counts))) for name, counts in sources.items()}


def _spread(place: dict[str, int], sources: Mapping[str, Mapping[str, int]], folds: int) -> dict[str, int]:
  """Moves single sources so that no class has all of its sources in one fold, where that can be done."""
  names_of: defaultdict[str, list[str]] = defaultdict(list)
  for name, counts in sources.items():
    for label in counts:
      names_of[label].append(name)

  def gathered(label: str) -> bool:
    return len(names_of[label]) > 1 and len({place[name] for name in names_of[label]}) == 1

  for label in sorted(names_of):
    moves = [(name, (place[name] + step) % folds) for name in names_of[label] for step in range(1, folds)]
    for name, fold in moves if gathered(label) else []:
      before, place[name] = place[name], fold
      if not any(map(gathered, sources[name])):
        break
      place[name] = before
  return place
