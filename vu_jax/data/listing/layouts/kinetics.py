"""Kinetics-400, -600 and -700: clips of 10 s of YouTube videos (Kay et al., arXiv:1705.06950; -700: arXiv:1907.06987).

Lists: every CSV in the root or annotations/ with these columns; others (is_cc) are not read:
  label,youtube_id,time_start,time_end,split
  testifying,---QUuC4vJs,84,94,validate

Videos: ID_000084_000094.mp4 (start and end [s]), or whole videos ID.mp4, of which the part is taken. In the download of
https://github.com/cvdfoundation/kinetics-dataset about 1,400 broken videos have a whole copy in replacement/, which is
preferred. Many videos are gone from YouTube, so missing files are no fault; every class of the lists stays a class,
so that labels mean the same on every machine. A test list without labels is left out.
"""

import difflib
import pathlib

from vu_jax.data.listing.folders import SPLIT_OF, Clip, check_root, part_id
from vu_jax.data.listing.layouts._files import Videos, check_only_split, check_some_exist, read_table
from vu_jax.errors import UserError

VIDEOS_VANISH = True
_COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split")
_REPLACED = "replacement_for_corrupted_k400"


def list_clips(root: pathlib.Path, split: int) -> list[Clip]:
  """Lists the clips of all splits, in the order of the lists; rows that say the same twice count once.

  Raises:
    UserError: no list, a missing column, a faulty row, two rows that disagree about a clip, or no video at all.
  """
  check_root(root)
  check_only_split(split, "Kinetics")
  videos = Videos(root)
  places: dict[str, tuple[str, Clip]] = {}
  for where, row in _rows(root):
    clip = _clip(root, videos, row, where)
    first, other = places.setdefault(clip.id, (where, clip))
    if other != clip:
      raise UserError(f"{where} gives {clip.id} another label or split than {first}; remove one of the two")
  clips = [clip for _, clip in places.values()]
  check_some_exist(clips, root, "the lists of Kinetics")
  return clips


def _rows(root: pathlib.Path) -> list[tuple[str, dict[str, str]]]:
  """(where, row) of all lists."""
  rows, found = [], False
  for file in sorted([*root.glob("*.csv"), *(root / "annotations").glob("*.csv")]):
    header, lines = read_table(file)
    if len(set(header) & set(_COLUMNS)) < 3:
      continue  # something else
    found = True
    missing = [name for name in _COLUMNS if name not in header]
    if missing == ["label"] and all(row["split"] == "test" for _, row in lines):
      continue
    if missing:
      nearest = difflib.get_close_matches(
        missing[0], [name for name in header if name not in _COLUMNS], n=1, cutoff=0.4
      )
      hint = f"; rename {nearest[0]!r}" if nearest else ""
      raise UserError(f"{file} has no column {missing[0]!r}; it has {', '.join(header)}{hint}")
    rows += lines
  if not found:
    raise UserError(
      f"no CSV in {root.absolute()} or its folder annotations has the columns {', '.join(_COLUMNS)}; put the official "
      "train.csv and val.csv there"
    )
  return rows


def _clip(root: pathlib.Path, videos: Videos, row: dict[str, str], where: str) -> Clip:
  youtube_id, label = row["youtube_id"], row["label"]
  if not youtube_id or not label:
    raise UserError(f"{where} has no youtube_id or no label; fill it in or remove the row")
  split = {**SPLIT_OF, "validate": "validation"}.get(row["split"])
  if split is None:
    raise UserError(f"{where} has the unknown split {row['split']!r}; write train, validate or test")
  try:
    start_s, end_s = float(row["time_start"]), float(row["time_end"])
  except ValueError:
    start_s, end_s = 0.0, -1.0
  if not 0 <= start_s < end_s < 1e6:
    raise UserError(f"{where}: time_start {row['time_start']!r} and time_end {row['time_end']!r} must be seconds")
  stem = f"{youtube_id}_{round(start_s):06d}_{round(end_s):06d}"
  path = videos.find(stem, _REPLACED)
  if path is None and (whole := videos.find(youtube_id, label)):
    return Clip(part_id(whole, start_s, end_s), root / whole, label, split, start_s, end_s, youtube_id)
  path = path or pathlib.PurePath(f"{stem}.mp4")
  return Clip(part_id(path, 0.0, float("inf")), root / path, label, split, group=youtube_id)
