"""AVA actions 2.2: persons in movies, boxed once per second, each doing several of 80 things (Gu et al., CVPR 2018).

Lists, from https://research.google.com/ava/download.html, in the root, annotations/ or ava_v2.2/; VALUES are
fractions of the frame from its upper left corner:
  ava_train_v2.2.csv, ava_val_v2.2.csv                        -5KQ66BBWC4,0902,0.077,0.151,0.283,0.811,80,1
                                                              (video, second, left, top, right, bottom, action, person)
  ava_train_excluded_timestamps_v2.2.csv, and for val         -5KQ66BBWC4,0902
  ava_action_list_v2.2_for_activitynet_2019.pbtxt             item { name: "bend/bow (at the waist)" id: 1 }

A clip is what the annotators judged: the three seconds around a boxed moment (section 3.1), one clip per moment, with
all boxes of the moment and all labels of each. Not one clip per box and action, which would store every moment about
eight times, and from which nobody could tell what a detector must find in it. As the single label that every clip has,
it gets the action that most of its persons do (of several, the one listed first: always a pose).

Actions that are not in the list are left out (that of 2019 has the 60 which the benchmark counts; without it
ava_action_list_v2.2.pbtxt is read, which has all 80), so are excluded moments. Videos: ID with any ending, whole
movies, or in a folder videos_15min what follows second 900. Test videos have no public labels. Many videos are gone
from YouTube, so missing files are no fault.
"""

import pathlib
import re
from collections import Counter
from collections.abc import Iterator

from vu_jax.data.listing.division import check_groups
from vu_jax.data.listing.folders import Box, Clip, check_root, part_id
from vu_jax.data.listing.layouts._files import (
  Videos,
  check_file,
  check_only_split,
  check_some_exist,
  list_folder,
  numbered_lines,
)
from vu_jax.errors import UserError

VIDEOS_VANISH = True
_FOLDERS = (".", "annotations", "ava_v2.2")
_SIDES = {"train": "train", "val": "validation"}
_ACTIONS = ("ava_action_list_v2.2_for_activitynet_2019.pbtxt", "ava_action_list_v2.2.pbtxt")
_AROUND_S = 1.5
_TRIMMED, _TRIMMED_AT_S = "videos_15min", 900.0  # what most programs for this set cut its movies to
_ITEM = re.compile(r"(?:item|label)\s*\{([^{}]*)\}")
_NAME, _ID = re.compile(r'\bname:\s*"([^"]+)"'), re.compile(r"\b(?:label_)?id:\s*(\d+)")

Moment = tuple[str, float]  # video, second


def list_clips(root: pathlib.Path, split: int) -> list[Clip]:
  """Lists the annotated moments in the order of the lists.

  Raises:
    UserError: a list is missing, a faulty line, a video in both splits, or no video at all.
  """
  check_root(root)
  check_only_split(split, "AVA")
  folder = list_folder(root, _FOLDERS, "ava_train_v2.2.csv", "lists of AVA")
  actions, videos = _read_actions(folder), Videos(root)
  clips, names = [], list(actions.values())
  for side, split_name in _SIDES.items():
    excluded = {
      _moment(line.split(","), where)
      for where, line in numbered_lines(folder / f"ava_{side}_excluded_timestamps_v2.2.csv")
    }
    for moment, found in _read_boxes(folder / f"ava_{side}_v2.2.csv", actions).items():
      if moment not in excluded:
        clips.append(_clip(root, videos, moment, found, names, split_name))
  check_groups(clips, str(folder))
  check_some_exist(clips, root, f"{folder}/ava_*_v2.2.csv")
  return clips


def _read_actions(folder: pathlib.Path) -> dict[int, str]:
  """Name of each action by its number, in the order of the list."""
  file = next((folder / name for name in _ACTIONS if (folder / name).is_file()), folder / _ACTIONS[0])
  check_file(file)
  actions: dict[int, str] = {}
  for item in _ITEM.findall(file.read_text(encoding="utf-8-sig")):
    name, number = _NAME.search(item), _ID.search(item)
    if not name or not number or int(number[1]) in actions or name[1] in actions.values():
      text = " ".join(item.split())
      raise UserError(f"{file} has the item {{ {text} }}; each needs a name and an id of its own: fetch it again")
    actions[int(number[1])] = name[1]
  if not actions:
    raise UserError(f'{file} has no item {{ name: "..." id: 1 }}; fetch the official file')
  return actions


def _read_boxes(file: pathlib.Path, actions: dict[int, str]) -> dict[Moment, list[Box]]:
  """The boxes of each moment; those without any listed action are left out."""
  rows: dict[Moment, dict[tuple[int, tuple[float, ...]], list[int]]] = {}
  for where, line in numbered_lines(file):
    moment, corners, action, person = _row(line.split(","), where)
    if action in actions:
      rows.setdefault(moment, {}).setdefault((person, corners), []).append(action)
  return {moment: list(_boxes(moment[1], found, actions)) for moment, found in rows.items()}


def _boxes(
  time_s: float, found: dict[tuple[int, tuple[float, ...]], list[int]], actions: dict[int, str]
) -> Iterator[Box]:
  for (person, (left, top, right, bottom)), numbers in found.items():
    labels = tuple(actions[number] for number in dict.fromkeys(numbers))
    yield Box(time_s, (left, top, right, bottom), labels, person)


def _row(cells: list[str], where: str) -> tuple[Moment, tuple[float, ...], int, int]:
  """(moment, corners, action, person) of a line."""
  try:
    left, top, right, bottom = corners = tuple(map(float, cells[2:6]))
    action, person = map(int, cells[6:])
    if 0 <= left <= right <= 1 and 0 <= top <= bottom <= 1:
      return _moment(cells[:2], where), corners, action, person
  except ValueError:
    pass
  raise UserError(
    f"{where} is {','.join(cells)!r}; it must be VIDEO,SECOND,LEFT,TOP,RIGHT,BOTTOM,ACTION,PERSON with a box in 0..1"
  )


def _moment(cells: list[str], where: str) -> Moment:
  try:
    video, second = cells
    if video and float(second) >= 0:
      return video, float(second)
  except ValueError:
    pass
  raise UserError(f"{where} is {','.join(cells)!r}; it must be VIDEO,SECOND, such as -5KQ66BBWC4,0902")


def _clip(root: pathlib.Path, videos: Videos, moment: Moment, boxes: list[Box], names: list[str], side: str) -> Clip:
  video, second = moment
  path = videos.find(video, _TRIMMED) or pathlib.PurePath(f"{video}.mp4")
  shift_s = _TRIMMED_AT_S if path.parent.name == _TRIMMED else 0.0
  if shift_s:
    boxes = [Box(box.time_s - shift_s, box.corners, box.labels, box.person) for box in boxes]
  start_s, end_s = max(second - shift_s - _AROUND_S, 0.0), second - shift_s + _AROUND_S
  counts = Counter(label for box in boxes for label in box.labels)
  label = min(counts, key=lambda label: (-counts[label], names.index(label)))
  return Clip(part_id(path, start_s, end_s), root / path, label, side, start_s, end_s, video, tuple(boxes))
