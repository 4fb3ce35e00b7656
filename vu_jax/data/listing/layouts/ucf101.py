"""UCF101: 13,320 videos of 101 actions, three splits (Soomro, Zamir, Shah: UCF101, CRCV-TR-12-01, 2012).

Lists, from https://www.crcv.ucf.edu/data/UCF101.php, in the root, ucfTrainTestlist/, splits/ or annotations/:
  classInd.txt      1 ApplyEyeMakeup
  trainlist01.txt   ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1
  testlist01.txt    ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi

g08 is one of the 25 groups of a class: clips of one group share actors or background. The number after a test video
is left out officially; lists that have it are read, too. The splits have 9,537 / 3,783, 9,586 / 3,734 and 9,624 / 3,696
clips. The videos of the class HandstandPushups are called v_HandStandPushups_*: the class is the folder's.
"""

import pathlib
import re

from vu_jax.data.listing.folders import Clip, as_text, check_root
from vu_jax.data.listing.layouts._files import Videos, check_listed_once, check_some_exist, list_folder, numbered_lines
from vu_jax.errors import UserError

VIDEOS_VANISH = False
_FOLDERS = (".", "ucfTrainTestlist", "splits", "annotations")
_VIDEO = re.compile(r"(?P<label>[^/\s]+)/(?P<stem>v_(?P<group>\S+_g\d+)_c\d+)\.\w+")


def list_clips(root: pathlib.Path, split: int) -> list[Clip]:
  """Lists the clips of split 1, 2 or 3 in the order of the lists, training first.

  Raises:
    UserError: no lists, no such split, a faulty line, an unknown class, a video listed twice, or no video at all.
  """
  check_root(root)
  folder = list_folder(root, _FOLDERS, "classInd.txt", "lists of UCF101")
  number_of = _classes(folder / "classInd.txt")
  videos = Videos(root)
  clips = [
    (where, _clip(root, videos, number_of, line, side, where))
    for side in ("train", "test")
    for where, line in numbered_lines(_list(folder, side, split))
  ]
  listed = check_listed_once(clips)
  check_some_exist(listed, root, f"{folder / 'trainlist'}{split:02d}.txt")
  return listed


def _classes(file: pathlib.Path) -> dict[str, str]:
  """Class -> number as text."""
  number_of: dict[str, str] = {}
  for where, line in numbered_lines(file):
    match = re.fullmatch(r"(\d+)\s+(\S+)", line)
    if not match:
      raise UserError(f"{where} is {line!r}; it must be a number and a class, such as 1 ApplyEyeMakeup")
    if match[2] in number_of or match[1] in number_of.values():
      raise UserError(f"{where} repeats a number or a class ({line}); remove one of the two")
    number_of[match[2]] = match[1]
  return number_of


def _list(folder: pathlib.Path, side: str, split: int) -> pathlib.Path:
  file = folder / f"{side}list{split:02d}.txt"
  if not file.is_file():
    known = ", ".join(sorted(found.name for found in folder.glob(f"{side}list*.txt"))) or "no such list"
    raise UserError(f"split={split}: there is no {file} (there is {known}); set another split or fetch the list")
  return file


def _clip(root: pathlib.Path, videos: Videos, number_of: dict[str, str], line: str, side: str, where: str) -> Clip:
  name, *number = line.split()
  match = _VIDEO.fullmatch(name)
  if not match or len(number) > 1 or (side == "train" and not number):
    form = "CLASS/v_CLASS_g01_c01.avi" + (" and the number of the class" if side == "train" else "")
    raise UserError(f"{where} is {line!r}; it must be {form}")
  label = match["label"]
  if label not in number_of:
    raise UserError(f"{where} has the class {label!r}, which is not in classInd.txt; mend one of the two")
  if number and number[0] != number_of[label]:
    raise UserError(f"{where} says {number[0]} for {label}, but classInd.txt {number_of[label]}; mend one of the two")
  path = videos.find(match["stem"], label) or pathlib.PurePath(name)
  return Clip(as_text(path), root / path, label, side, group=match["group"])
