"""Your own videos, or a known dataset: folders, a CSV table or official lists -> stored clips, transcoded once."""

import dataclasses
import functools
import hashlib
import json
import math
import pathlib
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import tensorflow_datasets as tfds

from vu_jax.data.features import clip_features
from vu_jax.data.listing.folders import SPLITS, Clip
from vu_jax.data.listing.selection import Selection, list_clips, may_lack
from vu_jax.data.parallel import in_order
from vu_jax.data.video.decode import probe
from vu_jax.data.video.packets import VideoError
from vu_jax.data.video.picture import scaled_size
from vu_jax.data.video.stores import Store, append_pixels
from vu_jax.data.video.transcode import Encoded, transcode
from vu_jax.errors import UserError
from vu_jax.glossary import Count, Fraction, Range

_PROBED = 16  # videos that are opened for the estimate
_BYTES_PER_PIXEL = {"intra": 0.13, "jpeg": 0.45, "raw": 3.0}  # of real footage at the default quality; measured
_VERSION = "1.0.0"  # to be raised when the same options give other stored clips


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(Selection):
  """Which clips there are (the fields of `Selection`) and how they are stored.

  Fields:
    store: form of the stored clips, see `vu_jax.data.video.stores`.
    short_side: stored short side [px]; smaller videos are not enlarged. Not for the store "source".
    crf: quality of the stored H.264; lower is better and bigger.
    max_rejected_frac: share of clips that cannot be read, above which preparing stops. Files that are missing from
      a set whose videos vanish from the web do not count.
  """

  store: Store = "intra"
  short_side: Count = 128
  crf: Annotated[int, Range(low=0, high=51)] = 18
  max_rejected_frac: Fraction = 0.1


def fingerprint(options: Options) -> str:
  """Short hash of all that decides what is stored: options, clips, size and date of every file.

  It does not change when the folder is moved, or when a column is renamed.

  Raises:
    UserError: the videos cannot be listed.
  """
  form = () if options.store == "intra" else (options.store,)  # the default was there before the others
  stored = options.short_side, options.crf, options.max_rejected_frac, *form
  clips = [
    (clip.id, clip.label, clip.split, clip.start_s, clip.end_s, *_size_and_date(clip.path))
    for clip in list_clips(options)
  ]
  return hashlib.sha256(json.dumps([_VERSION, stored, clips]).encode()).hexdigest()[:12]


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
  """Stores every clip in the form that the options name (`vu_jax.data.video.stores`).

  Build with `Builder(config=ClipsConfig(name=fingerprint(options), options=options), data_dir=...)`, then
  `download_and_prepare(file_format="array_record")`.

  Attributes:
    progress: called with (clips finished, clips in all) as they finish; None = silent.
    rejected: (id, reason) of the clips that could not be read or are missing; also in `info.metadata`, where
      `psnr_db` is the mean quality of one stored frame per clip [dB].
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

  def estimated_bytes(self) -> int:
    """Disk that the stored clips will need, from a few of the videos; 0 if none of these can be read."""
    options: Options = self.builder_config.options
    step = max(len(self.clips) // _PROBED, 1)
    sizes = [size for clip in self.clips[::step] if (size := _estimated_bytes(options, clip))]
    return len(self.clips) * sum(sizes) // max(len(sizes), 1)

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description=f"Clips of {self.builder_config.options.root}.",
      features=clip_features(sorted({clip.label for clip in self.clips}), self.builder_config.options.store),
      metadata=tfds.core.MetadataDict(),
    )

  def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
    missing = [clip for clip in self.clips if not clip.path.exists()] if may_lack(self.builder_config.options) else []
    self._psnr_db: list[float] = []
    self.info.metadata["rejected"] = [[clip.id, "there is no such file"] for clip in missing]
    self._num_missing = self._finished = len(missing)
    lost = {clip.id for clip in missing}
    clips_of = {split: [c for c in self.clips if c.split == split and c.id not in lost] for split in SPLITS}
    return {split: self._generate_examples(clips) for split, clips in clips_of.items() if clips}

  def _generate_examples(self, clips: list[Clip]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Examples of one split, in the order of its clips."""
    options: Options = self.builder_config.options
    kept = set()
    for clip, encoded in in_order(functools.partial(_store, options), clips):
      if isinstance(encoded, VideoError):
        self.info.metadata["rejected"].append([clip.id, str(encoded)])
        _check_share(self.rejected[self._num_missing :], len(self.clips) - self._num_missing, options)
      else:
        kept.add(clip.label)
        if math.isfinite(encoded.psnr_db):
          self._psnr_db.append(encoded.psnr_db)
        yield clip.id, self._example(clip, encoded)
      self._finished += 1
      if self.progress:
        self.progress(self._finished, len(self.clips))
    _check_kept(clips, kept, self.rejected)
    if self._psnr_db:
      self.info.metadata["psnr_db"] = round(sum(self._psnr_db) / len(self._psnr_db), 2)

  def _example(self, clip: Clip, encoded: Encoded) -> dict[str, Any]:
    stored = dataclasses.asdict(encoded)
    del stored["psnr_db"]
    if self.builder_config.options.store == "raw":
      stored["video"] = append_pixels(pathlib.Path(self.data_dir), encoded.video)
    return {"id": clip.id, "label": clip.label, **stored}


def _store(options: Options, clip: Clip) -> Encoded | VideoError:
  try:
    part = {"start_s": clip.start_s, "end_s": clip.end_s}
    return transcode(clip.path, short_side=options.short_side, crf=options.crf, store=options.store, **part)
  except VideoError as error:
    return error


def _estimated_bytes(options: Options, clip: Clip) -> int:
  try:
    found = probe(clip.path)
  except VideoError:
    return 0
  if options.store == "source":
    return clip.path.stat().st_size
  height, width = scaled_size((found.height, found.width), options.short_side, enlarge=False)
  frames = (min(clip.end_s, found.duration_s) - clip.start_s) * found.fps
  return max(int(frames * height * width * _BYTES_PER_PIXEL[options.store]), 0)


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
