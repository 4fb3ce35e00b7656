"""PARTS: a long preparation is divided into parts, each of which is finished or not there at all.

The clips of every split are put in the order in which TFDS stores them (by a hash of the id), the splits are spread
evenly over one row, and the row is cut into parts. So the order of the records does not depend on how many parts there
are, who makes them, or when. A shard, of which there are as many as the user wants, is a run of parts.
"""

import collections
import itertools
import pathlib
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tensorflow_datasets.core.hashing import Hasher

from vu_jax.data.listing.folders import SPLITS, Clip
from vu_jax.disk import write_text
from vu_jax.errors import UserError

_CLIPS_PER_PART = 64  # about what a kill costs, but for large sets, whose parts are larger
_FEW, _MANY = (
  32,
  256,
)  # parts; few are hard to share out evenly; a reader keeps one file of each open, and systems often allow 1024
_SHARDS = "shards"  # file with the number of shards that were last asked for


@dataclass(frozen=True)
class Shard:
  """One of several shares of a preparation, numbered from 1."""

  number: int
  of: int

  def __str__(self) -> str:
    return f"{self.number}/{self.of}"


def parse_shard(text: str) -> Shard:
  """The second of three from "2/3"; raises UserError if the text is nothing like that."""
  found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
  shard = Shard(*map(int, found.groups())) if found else Shard(0, 0)
  if not 1 <= shard.number <= shard.of:
    raise UserError(f"--shard={text}: must be i/n with i from 1 to n, such as --shard=2/3")
  return shard


def divide(clips: Sequence[Clip]) -> list[list[Clip]]:
  """The clips of each part: all parts have equally many, or one more, and about the same share of each split."""
  members: dict[str, list[Clip]] = collections.defaultdict(list)
  for clip in clips:
    members[clip.split].append(clip)
  row = []
  for split, found in members.items():
    hasher = Hasher(split)
    found.sort(key=lambda clip: hasher.hash_key(clip.id))
    row += [((place + 0.5) / len(found), SPLITS.index(split), clip) for place, clip in enumerate(found)]
  row.sort(key=lambda entry: entry[:2])
  count = min(len(row), max(_FEW, min(_MANY, -(-len(row) // _CLIPS_PER_PART))))
  ends = [part * len(row) // count for part in range(count + 1)]
  return [[clip for *_, clip in row[start:end]] for start, end in itertools.pairwise(ends)]


class Parts:
  """The parts of one preparation: `folder/00003-of-00032` is there once part 3 is finished."""

  def __init__(self, folder: pathlib.Path, clips: Sequence[Clip]):
    self.folder = folder
    self.clips = divide(clips)

  def __len__(self) -> int:
    return len(self.clips)

  def path(self, part: int) -> pathlib.Path:
    return self.folder / f"{part:05d}-of-{len(self):05d}"

  def is_done(self, part: int) -> bool:
    return self.path(part).is_dir()

  def missing(self, wanted: Iterable[int]) -> list[int]:
    return [part for part in wanted if not self.is_done(part)]

  def count(self, parts: Iterable[int]) -> int:
    """Clips in these parts."""
    return sum(len(self.clips[part]) for part in parts)

  def of(self, shard: Shard | None) -> range:
    """The parts of a shard; None = all. Where there are more shards than parts, some have none."""
    if shard is None:
      return range(len(self))
    return range(len(self) * (shard.number - 1) // shard.of, len(self) * shard.number // shard.of)

  def note_shards(self, of: int) -> None:
    """Keeps how many shards were asked for; 0 = the dataset is prepared in one go."""
    write_text(self.folder / _SHARDS, str(of))

  def noted_shards(self) -> int:
    """How many were last asked for."""
    try:
      return int((self.folder / _SHARDS).read_text())
    except FileNotFoundError:
      return 0

  def missing_shards(self, of: int) -> list[Shard]:
    shards = (Shard(number, of) for number in range(1, of + 1))
    return [shard for shard in shards if self.missing(self.of(shard))]

  def clear(self, part: int) -> None:
    """Removes what killed processes have left of a part."""
    for folder in self.folder.glob(f"{self.path(part).name}.*"):
      shutil.rmtree(folder, ignore_errors=True)
