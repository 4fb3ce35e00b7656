"""HMDB51: 6,766 clips of 51 actions, three splits of 70 and 30 clips per class (Kuehne et al., ICCV 2011).

Lists, from https://serre-lab.clps.brown.edu/resource/hmdb-a-large-human-motion-database, one per class and split, in
the root, testTrainMulti_7030_splits/, splits/ or annotations/:
  brush_hair_test_split1.txt   April_09_brush_hair_u_nm_np1_ba_goo_0.avi 1

1 is training, 2 test, 0 in neither. A name is made of source video, action, and six properties of the clip: body parts,
camera motion, number of people, view, quality, number of the clip; so the group of a clip is what precedes the action.
Within a class the splits keep sources apart; the paper does not promise it across classes.
"""

import pathlib
import re
from collections.abc import Sequence

from vu_jax.data.listing.folders import Clip, as_text, check_root
from vu_jax.data.listing.layouts._files import Videos, check_listed_once, check_some_exist, list_folder, numbered_lines
from vu_jax.errors import UserError

VIDEOS_VANISH = False
_FOLDERS = (".", "testTrainMulti_7030_splits", "splits", "annotations")
_SIDE = {"0": "", "1": "train", "2": "test"}
_PROPERTIES = re.compile(r"_[a-z]_[a-z]{2}_np\d+_[a-z]{2}_[a-z]{3}_\d+$")


def list_clips(root: pathlib.Path, split: int) -> list[Clip]:
  """Lists the clips of split 1, 2 or 3, class by class, in the order of the lists; those with code 0 are left out.

  Raises:
    UserError: no lists, no such split, a faulty line, a video listed twice, or no video at all.
  """
  return coded_clips(root, list_folder(root, _FOLDERS, "*_test_split*.txt", "lists of HMDB51"), split)


def coded_clips(root: pathlib.Path, folder: pathlib.Path, split: int) -> list[Clip]:
  """Lists the clips of all `CLASS_test_splitN.txt` of a folder; see `list_clips`."""
  check_root(root)
  files = sorted(folder.glob(f"*_test_split{split}.txt"))
  if not files:
    known = sorted({file.stem[-1] for file in folder.glob("*_test_split*.txt")})
    raise UserError(f"split={split}: {folder} has no *_test_split{split}.txt (it has splits {', '.join(known)})")
  videos = Videos(root)
  clips = [
    (where, clip)
    for file in files
    for where, line in numbered_lines(file)
    if (clip := _clip(root, videos, file.stem.removesuffix(f"_test_split{split}"), line, where)).split
  ]
  listed = check_listed_once(clips)
  check_some_exist(listed, root, f"{folder}/*_test_split{split}.txt")
  return listed


def source_of(stem: str, label: str) -> str:
  """Source video in the name of a clip; the whole name where it is not made in the official way."""
  return _PROPERTIES.sub("", stem).removesuffix(f"_{label}")


def _clip(root: pathlib.Path, videos: Videos, label: str, line: str, where: str) -> Clip:
  """A clip; its split is "" where the code says that it is not used."""
  name, code = _halves(line)
  if code not in _SIDE or not name:
    raise UserError(f"{where} is {line!r}; it must be a video and 1 (training), 2 (test) or 0 (neither)")
  stem = pathlib.PurePath(name).stem
  path = videos.find(stem, label) or pathlib.PurePath(label, name)
  return Clip(as_text(path), root / path, label, _SIDE[code], group=source_of(stem, label))


def _halves(line: str) -> Sequence[str]:
  """Name and code; names may hold spaces."""
  return line.rsplit(maxsplit=1) if " " in line else (line, "")
