"""Your own videos: class folders, split folders or a CSV table -> stored clips, transcoded once."""

import collections
import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any

import tensorflow_datasets as tfds

from vu_jax.data.clip_table import Columns, clips_in_table
from vu_jax.data.features import clip_features
from vu_jax.data.listing import SPLITS, Clip, clips_in_folders
from vu_jax.data.packets import VideoError
from vu_jax.data.transcode import Encoded, transcode
from vu_jax.errors import UserError
from vu_jax.glossary import Count, CountOrZero, Fraction, Range

_VERSION = "1.0.0"  # to be raised when the same options give other stored clips


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  """Where the videos are and how they are stored.

  Fields:
    root: folder of the videos: `root/CLASS/VIDEO`, or `root/SPLIT/CLASS/VIDEO` with the splits train,
      validation (or val) and test. With `csv`, the folder that its paths are relative to.
    csv: table with one clip per row, relative to root or absolute; "" = the folders say the classes.
    path_column, label_column, split_column: its columns.
    start_column, end_column: columns of the part that is the clip [s]; the table may lack them.
    short_side: stored short side [px]; smaller videos are not enlarged.
    crf: quality of the stored H.264; lower is better and bigger.
    test_frac, validation_frac: shares of every class, where there are class folders and no split folders.
    max_rejected_frac: share of clips that cannot be read, above which preparing stops.
    seed: of the division into splits.
  """

  root: str
  csv: str = ""
  path_column: str = "path"
  label_column: str = "label"
  split_column: str = "split"
  start_column: str = "start_s"
  end_column: str = "end_s"
  short_side: Count = 128
  crf: Annotated[int, Range(low=0, high=51)] = 18
  test_frac: Fraction = 0.2
  validation_frac: Fraction = 0.0
  max_rejected_frac: Fraction = 0.1
  seed: CountOrZero = 0


def list_clips(options: Options) -> list[Clip]:
  """Lists the clips that the options name, without opening a video; raises the UserErrors of the listing."""
  root = pathlib.Path(options.root).expanduser()
  if options.csv:
    columns = Columns(
      options.path_column,
      options.label_column,
      options.split_column,
      options.start_column,
      options.end_column,
    )
    return clips_in_table(root, root / pathlib.Path(options.csv).expanduser(), columns)
  return clips_in_folders(root, test_frac=options.test_frac, validation_frac=options.validation_frac, seed=options.seed)


def fingerprint(options: Options) -> str:
  """Short hash of all that decides what is stored: options, clips, size and date of every file.

  It does not change when the folder is moved, or when a column is renamed.

  Raises:
    UserError: the videos cannot be listed.
  """
  stored = options.short_side, options.crf, options.max_rejected_frac
  clips = [
    (clip.id, clip.label, clip.split, clip.start_s, clip.end_s, *_size_and_date(clip.path))
    for clip in list_clips(options)
  ]
  return hashlib.sha256(json.dumps([_VERSION, stored, clips]).encode()).hexdigest()[:12]


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
  """Stores every clip as small all-intra video (`vu_jax.data.transcode`).

  Build with `Builder(config=ClipsConfig(name=fingerprint(options), options=options), data_dir=...)`, then
  `download_and_prepare(file_format="array_record")`.

  Attributes:
    progress: called with (clips finished, clips in all) as they finish; None = silent.
    rejected: (id, reason) of the clips that could not be read; also in `info.metadata`.
  """

  name = "video_folder"
  VERSION = tfds.core.Version(_VERSION)
  progress: Callable[[int, int], None] | None = None

  @property
  def rejected(self) -> list[tuple[str, str]]:
    return [(clip_id, reason) for clip_id, reason in (self.info.metadata or {}).get("rejected", [])]

  @functools.cached_property
  def clips(self) -> list[Clip]:
    """All clips of the options, readable or not."""
    return list_clips(self.builder_config.options)

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description=f"Clips of {self.builder_config.options.root}.",
      features=clip_features(sorted({clip.label for clip in self.clips})),
      metadata=tfds.core.MetadataDict(),
    )

  def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
    self.info.metadata["rejected"] = []
    self._finished = 0
    clips_of = {split: [clip for clip in self.clips if clip.split == split] for split in SPLITS}
    return {split: self._generate_examples(clips) for split, clips in clips_of.items() if clips}

  def _generate_examples(self, clips: list[Clip]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Examples of one split, in the order of its clips."""
    options: Options = self.builder_config.options
    kept = set()
    for clip, encoded in _transcoded(clips, functools.partial(_store, options)):
      if isinstance(encoded, VideoError):
        self.info.metadata["rejected"].append([clip.id, str(encoded)])
        _check_share(self.rejected, len(self.clips), options)
      else:
        kept.add(clip.label)
        yield clip.id, _example(clip, encoded)
      self._finished += 1
      if self.progress:
        self.progress(self._finished, len(self.clips))
    _check_kept(clips, kept, self.rejected)


def _transcoded(
  clips: Iterable[Clip], store: Callable[[Clip], Encoded | VideoError]
) -> Iterator[tuple[Clip, Encoded | VideoError]]:
  """Stores clips in parallel and gives them in order; few are held at a time, so memory stays flat."""
  threads = os.cpu_count() or 1
  pending: collections.deque = collections.deque()
  with concurrent.futures.ThreadPoolExecutor(threads) as pool:
    try:
      for clip in clips:
        pending.append((clip, pool.submit(store, clip)))
        if len(pending) > 2 * threads:
          first, future = pending.popleft()
          yield first, future.result()
      while pending:
        first, future = pending.popleft()
        yield first, future.result()
    finally:
      for _, future in pending:
        future.cancel()


def _store(options: Options, clip: Clip) -> Encoded | VideoError:
  try:
    return transcode(clip.path, short_side=options.short_side, crf=options.crf, start_s=clip.start_s, end_s=clip.end_s)
  except VideoError as error:
    return error


def _example(clip: Clip, encoded: Encoded) -> dict[str, Any]:
  return {"id": clip.id, "label": clip.label, **dataclasses.asdict(encoded)}


def _check_share(rejected: list[tuple[str, str]], num_clips: int, options: Options) -> None:
  """Raises a UserError as soon as too many clips are rejected."""
  share = len(rejected) / num_clips
  if share > options.max_rejected_frac:
    raise UserError(
      f"at least {len(rejected)} of {num_clips} clips in {options.root} ({share:.0%}) cannot be read, but "
      f"max_rejected_frac is {options.max_rejected_frac:g}: {_first(rejected)}; mend them or raise that"
    )


def _check_kept(clips: list[Clip], kept: set[str], rejected: list[tuple[str, str]]) -> None:
  """Raises a UserError if a split has no clip left, or the training split none of a class."""
  split = clips[0].split
  lost = sorted({clip.label for clip in clips} - kept)
  if lost and (split == "train" or not kept):
    ids = {clip.id for clip in clips if clip.label == lost[0]}
    why = _first([entry for entry in rejected if entry[0] in ids])
    raise UserError(
      f"no clip of class {lost[0]!r} in the split {split} can be read: {why}; mend them, or remove the class"
    )


def _first(rejected: list[tuple[str, str]]) -> str:
  return "; ".join(f"{clip_id}: {reason}" for clip_id, reason in rejected[:3])


def _size_and_date(path: pathlib.Path) -> tuple[int, int]:
  """Size [bytes] and time of the last change [ns]; -1 for a file that cannot be found."""
  try:
    stat = path.stat()
  except OSError:
    return -1, -1
  return stat.st_size, stat.st_mtime_ns
