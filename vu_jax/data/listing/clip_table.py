"""The user's videos as a list of labelled clips, from a CSV table."""

import csv
import difflib
import math
import os
import pathlib
from collections.abc import Iterator
from dataclasses import dataclass

from vu_jax.data.listing.folders import SPLIT_OF, Clip, check_root, part_id
from vu_jax.errors import UserError


@dataclass(frozen=True)
class Columns:
  """Names of the columns; a table may lack start and end [s]. split, group: "" = there is none."""

  path: str = "path"
  label: str = "label"
  split: str = "split"
  start: str = "start_s"
  end: str = "end_s"
  group: str = ""


def clips_in_table(root: pathlib.Path, table: pathlib.Path, columns: Columns) -> list[Clip]:
  """Lists the clips of a CSV table with a header, in its order; paths in it are relative to the root.

  Cells are separated by commas, semicolons or tabs. The split column says train, validation (or val) or test;
  without one the split of every clip is "" (`division` divides them). Files that do not exist
  are listed, too, unless none exists.

  Raises:
    UserError: no such table or column; a faulty row, whose line is named; a clip that is there twice; or no file
      that exists.
  """
  check_root(root)
  line_of: dict[str, int] = {}
  clips = []
  for line, row in _rows(table, columns):
    clip = _clip(root, row, columns, where=f"{table} line {line}")
    if clip.id in line_of:
      raise UserError(f"{table} line {line} repeats line {line_of[clip.id]}, {clip.id}: remove one of the two")
    line_of[clip.id] = line
    clips.append(clip)
  if not clips:
    raise UserError(f"{table} has no rows below its header; list one clip per row")
  if not any(clip.path.exists() for clip in clips):
    raise UserError(
      f"{table}: none of its {len(clips)} files exists (first: {clips[0].path.absolute()}); the paths in "
      f"column {columns.path!r} must be relative to root={root}"
    )
  return clips


def _rows(table: pathlib.Path, columns: Columns) -> Iterator[tuple[int, dict[str, str]]]:
  """(line number, row) of every row that is not blank."""
  if not table.is_file():
    raise UserError(f"there is no table {table.absolute()}; csv is a path relative to root, or an absolute one")
  try:
    with table.open(newline="", encoding="utf-8-sig") as file:
      delimiter = max(",;\t", key=file.readline().count)
      file.seek(0)
      reader = csv.DictReader(file, delimiter=delimiter, restkey="", restval="")
      reader.fieldnames = [name.strip() for name in reader.fieldnames or []]
      _check_columns(table, columns, list(reader.fieldnames))
      for row in reader:
        row.pop("", None)
        if any(cell.strip() for cell in row.values()):
          yield reader.line_num, {name: cell.strip() for name, cell in row.items()}
  except (UnicodeDecodeError, csv.Error) as error:
    raise UserError(f"{table} is not a CSV table in UTF-8 ({error}); export it as such") from error


def _check_columns(table: pathlib.Path, columns: Columns, present: list[str]) -> None:
  needed = {"path": columns.path, "label": columns.label, "split": columns.split, "group": columns.group}
  for key, name in needed.items():
    if name not in present and (name or key in ("path", "label")):
      nearest = difflib.get_close_matches(name, present, n=1, cutoff=0.5)
      hint = f"did you mean {nearest[0]!r}? " if nearest else ""
      raise UserError(
        f"{table} has no column {name!r}; it has {', '.join(present) or 'an empty header'}; {hint}set {key}_column"
        + (' ("" = divide the clips by fractions or folds)' if key == "split" else "")
      )


def _clip(root: pathlib.Path, row: dict[str, str], columns: Columns, where: str) -> Clip:
  for name in filter(None, (columns.path, columns.label, columns.group)):
    if not row[name]:
      raise UserError(f"{where} has nothing in column {name!r}; fill it in or remove the row")
  split = SPLIT_OF.get(row[columns.split].lower()) if columns.split else ""
  if split is None:
    raise UserError(f"{where} has the unknown split {row[columns.split]!r}; write train, validation or test")
  start_s, end_s = _part(row.get(columns.start, ""), row.get(columns.end, ""), where)
  path = pathlib.Path(os.path.normpath(row[columns.path]))
  if path.is_absolute() and path.is_relative_to(root.absolute()):
    path = path.relative_to(root.absolute())
  label, group = " ".join(row[columns.label].split()), row[columns.group] if columns.group else ""
  return Clip(part_id(path, start_s, end_s), root / path, label, split, start_s, end_s, group)


def _part(start: str, end: str, where: str) -> tuple[float, float]:
  """Start and end of a clip [s]; an empty cell means that of the file."""
  try:
    start_s, end_s = float(start or 0), float(end or math.inf)
  except ValueError:
    raise UserError(f"{where}: start {start!r} and end {end!r} must be seconds, or empty") from None
  if not 0 <= start_s < end_s:
    raise UserError(f"{where}: start {start!r} and end {end!r} must fulfil 0 <= start < end")
  return start_s, end_s
