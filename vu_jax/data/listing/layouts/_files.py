"""What the layouts share: where lists and videos lie, and lines and JSON read strictly."""

import csv
import json
import pathlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from vu_jax.data.listing.folders import Clip, videos_in
from vu_jax.errors import UserError


class Videos:
  """The videos below a root, found by name without ending."""

  def __init__(self, root: pathlib.Path):
    self._root = root
    self._paths = defaultdict(list)
    for path in sorted(videos_in(root)):
      self._paths[path.stem].append(path)

  def find(self, stem: str, folder: str) -> pathlib.PurePath | None:
    """Path relative to the root; of several, the one in a folder of that name, else the first by path."""
    found = self._paths.get(stem, [])
    return min(found, key=lambda path: path.parent.name != folder, default=None)


def list_folder(root: pathlib.Path, folders: Sequence[str], pattern: str, what: str) -> pathlib.Path:
  """The first folder that holds a list; folders are relative to the root, "." is the root itself.

  Raises:
    UserError: none does.
  """
  for folder in folders:
    if any((root / folder).glob(pattern)):
      return root / folder
  places = ", ".join(folder for folder in folders if folder != ".")
  raise UserError(f"no {pattern} in {root.absolute()} or its folders {places}; put the {what} there")


def check_file(file: pathlib.Path) -> None:
  """Raises a UserError unless the file exists."""
  if not file.is_file():
    raise UserError(f"there is no file {file.absolute()}; put the official one there")


def numbered_lines(file: pathlib.Path) -> Iterator[tuple[str, str]]:
  """("FILE line N", text) of all lines that are not blank."""
  check_file(file)
  try:
    lines = file.read_text(encoding="utf-8-sig").splitlines()
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(f"{file} is no text in UTF-8 ({error}); fetch it again") from None
  for number, line in enumerate(lines, 1):
    if line.strip():
      yield f"{file} line {number}", line.strip()


def read_json(file: pathlib.Path, kind: type) -> Any:
  """The content of a JSON file, which must be a list or dict; raises a UserError that says what is wrong where."""
  check_file(file)
  try:
    content = json.loads(file.read_text(encoding="utf-8-sig"))
  except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
    raise UserError(f"{file} is not JSON in UTF-8 ({error}); fetch it again") from None
  if not isinstance(content, kind):
    raise UserError(f"{file} holds a {type(content).__name__}, not a {kind.__name__}; fetch the official file")
  return content


def read_table(file: pathlib.Path) -> tuple[list[str], list[tuple[str, dict[str, str]]]]:
  """Header and ("FILE line N", row) of a CSV table; cells are stripped, rows that are too short get empty ones."""
  try:
    with file.open(newline="", encoding="utf-8-sig") as lines:
      reader = csv.DictReader(lines, restkey="", restval="")
      header = [name.strip() for name in reader.fieldnames or []]
      reader.fieldnames = header
      rows = [(f"{file} line {reader.line_num}", row) for row in reader]
  except (OSError, UnicodeDecodeError, csv.Error) as error:
    raise UserError(f"{file} is not a CSV table in UTF-8 ({error}); fetch it again") from None
  return header, [(where, {name: cell.strip() for name, cell in row.items() if name}) for where, row in rows]


def check_listed_once(clips: Sequence[tuple[str, Clip]]) -> list[Clip]:
  """Takes (where, clip); raises a UserError naming both places if an id is there twice."""
  first: dict[str, str] = {}
  for where, clip in clips:
    if clip.id in first:
      raise UserError(f"{where} repeats {first[clip.id]}, {clip.id}: remove one of the two")
    first[clip.id] = where
  return [clip for _, clip in clips]


def check_some_exist(clips: Sequence[Clip], root: pathlib.Path, source: str) -> None:
  """Raises a UserError if there are no clips, or no file of any."""
  if not clips:
    raise UserError(f"{source} lists no clips; fetch the official file")
  if not any(clip.path.exists() for clip in clips):
    name = clips[0].path.relative_to(root)
    raise UserError(f"none of the {len(clips)} videos of {source} is below {root.absolute()} (first: {name})")


def check_only_split(split: int, name: str) -> None:
  """Raises a UserError for another split than 1, where there is one."""
  if split != 1:
    raise UserError(f"split={split}: {name} has one official division; leave split out")
