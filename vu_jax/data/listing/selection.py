"""Which clips a dataset of videos holds, and in which splits: from folders, a table or the lists of a known dataset."""

import importlib
import pathlib
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from vu_jax.data.listing import division
from vu_jax.data.listing.clip_table import Columns, clips_in_table
from vu_jax.data.listing.folders import Clip, check_classes, clips_in_folders
from vu_jax.errors import UserError
from vu_jax.glossary import Count, CountOrZero, Fraction, Range

Layout: TypeAlias = Literal[
  "folders", "ucf101", "hmdb51", "jhmdb", "kinetics", "something_something", "activitynet", "ava"
]


@dataclass(frozen=True, kw_only=True)
class Selection:
  """Where the videos are and how they are divided.

  Fields:
    root: folder of the videos: `root/CLASS/VIDEO`, or `root/SPLIT/CLASS/VIDEO` with the splits train,
      validation (or val) and test. With `csv`, the folder that its paths are relative to.
    layout: "folders", or the known dataset (a file of `vu_jax/data/listing/layouts`) whose own lists are in root.
    split: number of the official split of a known dataset, from 1.
    csv: table with one clip per row, relative to root or absolute; "" = the folders say the classes.
    path_column, label_column, split_column: its columns; split_column "" = the table says no splits.
    start_column, end_column: columns of the part that is the clip [s]; the table may lack them.
    group_column: column that names the source (video, actor, place) of a clip; "" = not known.
    group_pattern: regular expression on the clip's id (path relative to root) whose first group names the
      source, such as "(person[0-9]+)_"; "" = not known. Clips of one source never lie on both sides.
    test_frac, validation_frac: shares of every class, where the data says no splits. A known dataset without
      validation split gives this share of its training clips.
    folds, fold: the fold with this number, from 1, of so many is the test split; 0 = test_frac decides.
    leave_out: the source that is the test split, instead of test_frac.
    seed: of the division into splits.
  """

  root: str
  layout: Layout = "folders"
  split: Annotated[int, Range(low=1, high=3)] = 1
  csv: str = ""
  path_column: str = "path"
  label_column: str = "label"
  split_column: str = "split"
  start_column: str = "start_s"
  end_column: str = "end_s"
  group_column: str = ""
  group_pattern: str = ""
  test_frac: Fraction = 0.2
  validation_frac: Fraction = 0.0
  folds: CountOrZero = 0
  fold: Count = 1
  leave_out: str = ""
  seed: CountOrZero = 0


def list_clips(chosen: Selection) -> list[Clip]:
  """Lists the clips without opening a video.

  Raises:
    UserError: options that contradict each other, or whatever the listing finds wrong.
  """
  _check(chosen)
  root = pathlib.Path(chosen.root).expanduser()
  if chosen.layout != "folders":
    return _official_clips(chosen, root)
  if chosen.csv:
    table = root / pathlib.Path(chosen.csv).expanduser()
    clips, source = clips_in_table(root, table, _columns(chosen)), str(table)
  else:
    clips, source = clips_in_folders(root), str(root)
  if chosen.group_pattern:
    clips = division.group_by_pattern(clips, chosen.group_pattern)
  undivided = not clips[0].split  # all or none
  if undivided:
    clips = _divided(chosen, clips)
  elif chosen.folds or chosen.leave_out:
    cure = 'set split_column=""' if chosen.csv else "move the class folders out of the split folders"
    raise UserError(f"{source} says the splits itself, so folds and leave_out cannot; leave them out, or {cure}")
  else:
    division.check_groups(clips, source)
  some = bool(chosen.folds) or chosen.test_frac + chosen.validation_frac > 0
  check_classes(clips, source, needs_two=not undivided or (some and not chosen.leave_out))
  return clips


def may_lack(chosen: Selection) -> bool:
  """Whether files that do not exist are no fault: those of sets whose videos vanish from the web."""
  return chosen.layout != "folders" and _layout(chosen).VIDEOS_VANISH


def _official_clips(chosen: Selection, root: pathlib.Path) -> list[Clip]:
  clips = _layout(chosen).list_clips(root, chosen.split)
  if chosen.validation_frac:
    if any(clip.split == "validation" for clip in clips):
      raise UserError(f"{chosen.layout} has a validation split of its own; leave out validation_frac")
    clips = division.hold_out(clips, chosen.validation_frac, chosen.seed)
  check_classes(clips, f"{chosen.layout} in {root}", needs_two=False)
  return clips


def _layout(chosen: Selection):
  return importlib.import_module(f"vu_jax.data.listing.layouts.{chosen.layout}")


def _divided(chosen: Selection, clips: list[Clip]) -> list[Clip]:
  held_out, seed = chosen.validation_frac, chosen.seed
  if chosen.folds:
    return division.divide_by_fold(clips, folds=chosen.folds, fold=chosen.fold, validation_frac=held_out, seed=seed)
  if chosen.leave_out:
    return division.divide_by_group(clips, test_group=chosen.leave_out, validation_frac=held_out, seed=seed)
  return division.divide(clips, test_frac=chosen.test_frac, validation_frac=held_out, seed=seed)


def _columns(chosen: Selection) -> Columns:
  return Columns(
    chosen.path_column,
    chosen.label_column,
    chosen.split_column,
    chosen.start_column,
    chosen.end_column,
    chosen.group_column,
  )


def _check(chosen: Selection) -> None:
  """Raises a UserError for options that would be ignored or contradict each other."""
  if chosen.layout != "folders":
    for key in ("csv", "group_column", "group_pattern", "folds", "leave_out"):
      if value := getattr(chosen, key):
        raise UserError(f'{key}={value!r}: layout="{chosen.layout}" has its own lists and splits; leave {key} out')
  elif chosen.split != 1:
    raise UserError(f'split={chosen.split}: layout="folders" has no numbered splits; set layout, or leave split out')
  if chosen.group_column and not chosen.csv:
    raise UserError(f"group_column={chosen.group_column!r} needs a csv; for folders set group_pattern")
  for a, b in (("group_column", "group_pattern"), ("folds", "leave_out")):
    if getattr(chosen, a) and getattr(chosen, b):
      raise UserError(f"{a} and {b} are both set; leave one of them out")
  if chosen.fold != 1 and not chosen.folds:
    raise UserError(f"fold={chosen.fold} needs folds, the number of all folds")
