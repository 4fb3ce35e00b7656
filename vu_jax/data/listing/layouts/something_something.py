"""Something-Something V2: 220,847 clips of 174 templates (Goyal et al., ICCV 2017, arXiv:1706.04261).

Lists, from Qualcomm's site of the dataset, in the root, labels/ or annotations/, also with the older prefix
something-something-v2- :
  train.json, validation.json   [{"id": "78687", "label": "holding potato next to bottle",
                                  "template": "Holding [something] next to [something]", ...}]
  test.json                     [{"id": "1420"}]
  test-answers.csv              1420;Holding something next to something
  labels.json                   {"Holding something next to something": "48"}

The class is the template without brackets. The test split is left out where its answers are not there. The lists do
not say who filmed a clip, so there are no groups. Videos: ID.webm, anywhere below the root.
"""

import pathlib
from collections.abc import Iterator

from vu_jax.data.listing.folders import Clip, as_text, check_root
from vu_jax.data.listing.layouts._files import (
  Videos,
  check_listed_once,
  check_only_split,
  check_some_exist,
  list_folder,
  numbered_lines,
  read_json,
)
from vu_jax.errors import UserError

VIDEOS_VANISH = False
_FOLDERS = (".", "labels", "annotations")
_PREFIX = "something-something-v2-"


def list_clips(root: pathlib.Path, split: int) -> list[Clip]:
  """Lists the clips of training, validation and, where it has answers, test, in the order of the lists.

  Raises:
    UserError: no lists, a faulty entry, an unknown class, a clip listed twice, or no video at all.
  """
  check_root(root)
  check_only_split(split, "Something-Something")
  folder = list_folder(root, _FOLDERS, "*train.json", "lists of Something-Something V2")
  classes = set(read_json(_file(folder, "labels.json"), dict))
  videos = Videos(root)
  clips = []
  for where, clip_id, label, side in _entries(folder):
    if label not in classes:
      raise UserError(
        f"{where} (id {clip_id}) has the class {label!r}, which is not in labels.json; mend one of the two"
      )
    path = videos.find(clip_id, "") or pathlib.PurePath(f"{clip_id}.webm")
    clips.append((where, Clip(as_text(path), root / path, label, side)))
  listed = check_listed_once(clips)
  check_some_exist(listed, root, str(folder / "train.json"))
  return listed


def _file(folder: pathlib.Path, name: str) -> pathlib.Path:
  """A list, with or without the prefix; the plain name if neither exists."""
  prefixed = folder / (_PREFIX + name)
  return prefixed if prefixed.is_file() else folder / name


def _entries(folder: pathlib.Path) -> Iterator[tuple[str, str, str, str]]:
  """(where, id, class, split) of every labelled clip."""
  for side in ("train", "validation"):
    file = _file(folder, f"{side}.json")
    for where, clip_id, entry in _ids(file):
      template = entry.get("template")
      if not isinstance(template, str):
        raise UserError(f"{where} (id {clip_id}) has no template; fetch the official file")
      yield where, clip_id, template.replace("[", "").replace("]", ""), side
  answers, test = _file(folder, "test-answers.csv"), _file(folder, "test.json")
  if not answers.is_file():
    return
  known = {clip_id for _, clip_id, _ in _ids(test)} if test.is_file() else None
  for where, line in numbered_lines(answers):
    clip_id, _, label = line.partition(";")
    if not label or (known is not None and clip_id not in known):
      raise UserError(f"{where} is {line!r}; it must be an id of test.json, a semicolon and a class")
    yield where, clip_id, label.strip(), "test"


def _ids(file: pathlib.Path) -> Iterator[tuple[str, str, dict]]:
  """(where, id, entry) of a JSON list."""
  for number, entry in enumerate(read_json(file, list), 1):
    if not isinstance(entry, dict) or not str(entry.get("id", "")):
      raise UserError(f"{file} entry {number} has no id; fetch the official file")
    yield f"{file} entry {number}", str(entry["id"]), entry
