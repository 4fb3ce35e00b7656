"""The user's videos as a list of labelled clips, from class folders or split folders."""

import math
import os
import pathlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from vu_jax.errors import UserError

SPLITS = ("train", "validation", "test")
SPLIT_OF = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
EXTENSIONS = (
  *(
    ".3g2",
    ".3gp",
    ".asf",
    ".avi",
    ".divx",
    ".dv",
    ".f4v",
    ".flv",
    ".gif",
    ".h264",
    ".h265",
    ".hevc",
    ".ivf",
  ),
  *(
    ".m1v",
    ".m2ts",
    ".m2v",
    ".m4v",
    ".mjpeg",
    ".mjpg",
    ".mkv",
    ".mov",
    ".mp4",
    ".mpe",
    ".mpeg",
    ".mpg",
    ".mpv",
  ),
  *(".mts", ".mxf", ".nut", ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv", ".y4m"),
)


@dataclass(frozen=True, slots=True)
class Box:
  """Where somebody is at one moment of a clip, and what they do, which may be several things."""

  time_s: float  # in the file
  corners: tuple[float, float, float, float]  # left, top, right, bottom as fractions of the upright frame
  labels: tuple[str, ...]
  person: int  # number within the video, the same at other moments; -1 = not known

  def row(self) -> tuple[Any, ...]:
    return self.time_s, self.corners, self.labels, self.person


@dataclass(frozen=True)
class Clip:
  """One labelled clip: a video file, or a part of it."""

  id: str  # path relative to the root, with "#start-end" for a part
  path: pathlib.Path
  label: str
  split: str  # train, validation or test; "" = not divided yet
  start_s: float = 0.0
  end_s: float = math.inf
  group: str = ""  # source video, actor or place, which must not lie on both sides; "" = not known
  boxes: tuple[Box, ...] = ()  # of sets that say where things are

  @property
  def labels(self) -> frozenset[str]:
    """Its own label and those of its boxes."""
    return frozenset((self.label, *(label for box in self.boxes for label in box.labels)))


def clips_in_folders(root: pathlib.Path) -> list[Clip]:
  """Lists `root/CLASS/**/VIDEO`, or `root/{train,validation,val,test}/CLASS/**/VIDEO`, sorted by path.

  Without split folders the split of every clip is "" (`division` divides them). Hidden files and those without a
  video's extension are ignored.

  Raises:
    UserError: no such folder, no videos, or videos outside the class folders.
  """
  check_root(root)
  videos = sorted(videos_in(root))
  if not videos:
    raise UserError(f"no videos in {root.absolute()}: looked in CLASS folders for {' '.join(EXTENSIONS)}")
  depth = 2 if _are_splits({video.parts[0] for video in videos if len(video.parts) > 1}, root) else 1
  loose = [video for video in videos if len(video.parts) <= depth]
  if loose:
    raise UserError(
      f"{len(loose)} of {len(videos)} videos in {root} lie in no class folder (first: {loose[0]}): "
      "move each into a folder named as its class"
    )
  return [
    Clip(as_text(video), root / video, as_text(video.parts[depth - 1]), _split(video.parts[0]) if depth == 2 else "")
    for video in videos
  ]


def all_labels(clips: Iterable[Clip]) -> frozenset[str]:
  """The classes of all clips and boxes."""
  return frozenset().union(*(clip.labels for clip in clips))


def check_classes(clips: list[Clip], source: str, needs_two: bool = True) -> None:
  """Raises a UserError if a class has a single clip, or none to train on; `source` is named in it."""
  single = [label for label, count in Counter(clip.label for clip in clips).items() if count == 1]
  if single and needs_two:
    raise UserError(
      f"{source}: only one clip of {_classes(single)}; a class needs at least 2, to train and to test: add "
      "clips or remove the class"
    )
  trained = all_labels(clip for clip in clips if clip.split == "train")
  if not trained:
    counts = Counter(clip.split for clip in clips)
    found = ", ".join(f"{count} in {split}" for split, count in counts.items())
    raise UserError(f"{source}: no clip is in the split train ({found}); put some there")
  untrained = all_labels(clips) - trained
  if untrained:
    raise UserError(f"{source}: no clip of {_classes(untrained)} is in the split train; add some or remove it")


def _classes(labels: Collection[str]) -> str:
  more = f" (and of {len(labels) - 1} more)" if len(labels) > 1 else ""
  return f"class {min(labels)!r}{more}"


def check_root(root: pathlib.Path) -> None:
  """Raises a UserError unless the root is a folder."""
  if not root.is_dir():
    problem = f"{root.absolute()} is a file" if root.exists() else f"there is no folder {root.absolute()}"
    raise UserError(f"{problem}; set root to the folder that holds your videos")


def as_text(path: pathlib.PurePath | str) -> str:
  """Path as text, with forward slashes; bytes that are not UTF-8 become question marks."""
  text = path.as_posix() if isinstance(path, pathlib.PurePath) else path
  return text.encode("utf-8", "replace").decode()


def part_id(path: pathlib.PurePath | str, start_s: float, end_s: float) -> str:
  """Id of a part of a video [s]; of the whole video, its path."""
  return as_text(path) + (f"#{start_s:.10g}-{end_s:.10g}" if (start_s, end_s) != (0.0, math.inf) else "")


def _split(folder: str) -> str:
  return SPLIT_OF.get(folder.lower(), "")


def _are_splits(tops: set[str], root: pathlib.Path) -> bool:
  """Whether the top folders are splits; a class may be called "train": one name beside others is no sign."""
  named = {top for top in tops if _split(top)}
  others = sorted(tops - named)
  if not others or len({_split(top) for top in named}) < 2:
    return bool(named) and not others
  raise UserError(
    f"{root} has split folders ({', '.join(sorted(named))}) beside others with videos (first: {others[0]}); "
    "move those away, or into the splits"
  )


def videos_in(root: pathlib.Path) -> Iterator[pathlib.PurePath]:
  """Relative paths of the video files below a folder, in no order; follows links to folders, but not in circles."""
  above: dict[str, frozenset[str]] = {}  # folder -> real places of it and of all folders above it
  for folder, subfolders, files in os.walk(root, followlinks=True, onerror=_refuse):
    real, parents = os.path.realpath(folder), above.get(os.path.dirname(folder), frozenset())
    if real in parents:
      subfolders.clear()
      continue
    above[folder] = parents | {real}
    subfolders[:] = [name for name in subfolders if not name.startswith(".")]
    relative = pathlib.Path(folder).relative_to(root)
    for name in files:
      if not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS:
        yield relative / name


def _refuse(error: OSError) -> None:
  raise UserError(f"cannot read the folder {error.filename} ({error.strerror}); mend its permissions")
