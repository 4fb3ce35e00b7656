"""Your own videos, or a known dataset: folders, a CSV table or official lists -> stored clips, transcoded once."""

import dataclasses
import functools
import hashlib
import json
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import tensorflow_datasets as tfds

from vu_jax.data.audio.store import stored_sound
from vu_jax.data.changes import Stamp, stamp
from vu_jax.data.features import Extra, box_rows, clip_features
from vu_jax.data.listing.folders import SPLITS, Box, Clip, all_labels
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
_BYTES_PER_SAMPLE = {"none": 0.0, "flac": 1.2}  # of speech and music; measured
_VERSION = "1.1.0"  # to be raised when the same options give other stored clips


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(Selection):
  """Which clips there are (the fields of `Selection`) and how they are stored.

  Fields:
    store: form of the stored clips, see `vu_jax.data.video.stores`.
    short_side: stored short side [px]; smaller videos are not enlarged. Not for the store "source".
    crf: quality of the stored H.264; lower is better and bigger.
    audio: "flac" also stores the sound, of one channel and without loss.
    audio_hz: its samples per second.
    max_rejected_frac: share of clips that cannot be read, above which preparing stops. Files that are missing from
      a set whose videos vanish from the web do not count.
  """

  store: Store = "intra"
  short_side: Count = 128
  crf: Annotated[int, Range(low=0, high=51)] = 18
  audio: Literal["none", "flac"] = "none"
  audio_hz: Count = 16000
  max_rejected_frac: Fraction = 0.1


def fingerprint(options: Options) -> str:
  """Short hash of all that decides what is stored: options, clips, size and date of every file.

  It does not change when the folder is moved, or when a column is renamed.

  Raises:
    UserError: the videos cannot be listed.
  """
  form = () if options.store == "intra" else (options.store,)  # the default was there before the others
  sound = () if options.audio == "none" else (options.audio, options.audio_hz)
  stored = options.short_side, options.crf, *form, *sound
  clips = [
    (c.id, c.label, c.split, c.start_s, c.end_s, *stamp(c.path), *map(Box.row, c.boxes)) for c in list_clips(options)
  ]
  return hashlib.sha256(json.dumps([_VERSION, stored, clips]).encode()).hexdigest()[:12]


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
  """Stores every clip in the form that the options name (`vu_jax.data.video.stores`).

  Build with `Builder(config=ClipsConfig(name=fingerprint(options), options=options), data_dir=...)`. `prepare` makes
  its clips in parts; `download_and_prepare(file_format="array_record")` gives the same records in one go.

  Attributes:
    progress: called with (clips finished, clips in all) as they finish in one go; None = silent.
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

  @functools.cached_property
  def sources(self) -> dict[str, Stamp]:
    """What each clip is made from, by its id."""
    return {clip.id: stamp(clip.path) for clip in self.clips}

  @functools.cached_property
  def missing(self) -> frozenset[str]:
    """Ids of the clips whose files do not exist, where that is no fault."""
    lost = (clip.id for clip in self.clips if self.sources[clip.id][0] < 0)
    return frozenset(lost if may_lack(self.builder_config.options) else ())

  def estimated_bytes(self, clips: Sequence[Clip] | None = None) -> int:
    """Disk that these clips (None = all) will need, from a few of them; 0 if none of those can be read."""
    clips = self.clips if clips is None else clips
    options: Options = self.builder_config.options
    step = max(len(clips) // _PROBED, 1)
    sizes = [size for clip in clips[::step] if (size := _estimated_bytes(options, clip))]
    return len(clips) * sum(sizes) // max(len(sizes), 1)

  def make(self, clip: Clip) -> Encoded | VideoError:
    """The stored form of a clip, or why there is none.

    Raises:
      UserError: its file has changed since the clips were listed.
    """
    options: Options = self.builder_config.options
    part = {"start_s": clip.start_s, "end_s": clip.end_s}
    made: Encoded | VideoError
    try:
      made = transcode(clip.path, short_side=options.short_side, crf=options.crf, store=options.store, **part)
      if options.audio != "none":
        made = dataclasses.replace(made, audio=stored_sound(clip.path, made, options.audio_hz))
    except VideoError as error:
      made = error
    if stamp(clip.path) != self.sources[clip.id]:
      raise UserError(f"{clip.path} has changed while the dataset was being prepared; give the same command again")
    return made

  def example(self, clip: Clip, encoded: Encoded) -> dict[str, Any]:
    """The record of a clip; with the store "raw" its pixels are still in it."""
    features = self.info.features
    stored = {"id": clip.id, "label": clip.label, "source": self.sources[clip.id], **dataclasses.asdict(encoded)}
    if "boxes" in features:
      stored |= box_rows(clip.boxes, features["label"].names, encoded.first_s)
    return {name: stored[name] for name in features}

  def check_rejected(self, rejected: Sequence[tuple[str, str]]) -> None:
    """Raises a UserError if too many clips, of (id, reason), are rejected."""
    limit = self.builder_config.options.max_rejected_frac
    if len(rejected) <= limit * (len(self.clips) - len(rejected)):
      return  # whichever of them are missing; finding that out takes a look at every file
    unread = [item for item in rejected if item[0] not in self.missing]
    _check_share(unread, len(self.clips) - len(self.missing), self.builder_config.options)

  def check_kept(self, kept: Mapping[str, set[str]], rejected: Sequence[tuple[str, str]]) -> None:
    """Raises a UserError if a split has no clip left, or the training split none of a class.

    Args:
      kept: the classes that are stored, by split.
      rejected: (id, reason) of the clips that are not.
    """
    for split in SPLITS:
      if clips := [clip for clip in self.clips if clip.split == split and clip.id not in self.missing]:
        _check_kept(clips, kept.get(split, set()), rejected)

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description=f"Clips of {self.builder_config.options.root}.",
      features=clip_features(sorted(all_labels(self.clips)), self.builder_config.options.store, self._extras()),
      metadata=tfds.core.MetadataDict(),
    )

  def _extras(self) -> list[Extra]:
    """What is stored besides video and label."""
    extras: list[Extra] = ["times_s", "source"]
    if any(clip.boxes for clip in self.clips):
      extras.append("boxes")
    if self.builder_config.options.audio != "none":
      extras.append("audio")
    return extras

  def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
    self._psnr_db: list[float] = []
    self.info.metadata["rejected"] = [[key, "there is no such file"] for key in self.sources if key in self.missing]
    self._finished = len(self.missing)
    clips_of = {split: [c for c in self.clips if c.split == split and c.id not in self.missing] for split in SPLITS}
    return {split: self._generate_examples(clips) for split, clips in clips_of.items() if clips}

  def _generate_examples(self, clips: list[Clip]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Examples of one split, in the order of its clips."""
    kept = set()
    for clip, encoded in in_order(self.make, clips):
      if isinstance(encoded, VideoError):
        self.info.metadata["rejected"].append([clip.id, str(encoded)])
        self.check_rejected(self.rejected)
      else:
        kept.add(clip.label)
        if math.isfinite(encoded.psnr_db):
          self._psnr_db.append(encoded.psnr_db)
        example = self.example(clip, encoded)
        if self.builder_config.options.store == "raw":
          example["video"] = append_pixels(pathlib.Path(self.data_dir), encoded.video)
        yield clip.id, example
      self._finished += 1
      if self.progress:
        self.progress(self._finished, len(self.clips))
    _check_kept(clips, kept, self.rejected)
    if self._psnr_db:
      self.info.metadata["psnr_db"] = round(sum(self._psnr_db) / len(self._psnr_db), 2)


def _estimated_bytes(options: Options, clip: Clip) -> int:
  try:
    found = probe(clip.path)
  except VideoError:
    return 0
  seconds = max(min(clip.end_s, found.duration_s) - clip.start_s, 0)
  sound = seconds * options.audio_hz * _BYTES_PER_SAMPLE[options.audio]
  if options.store == "source":
    return clip.path.stat().st_size + int(sound)
  height, width = scaled_size((found.height, found.width), options.short_side, enlarge=False)
  return int(seconds * found.fps * height * width * _BYTES_PER_PIXEL[options.store] + sound)


def _check_share(rejected: Sequence[tuple[str, str]], num_clips: int, options: Options) -> None:
  """Raises a UserError as soon as too many clips are rejected."""
  share = len(rejected) / max(num_clips, 1)
  if share > options.max_rejected_frac:
    raise UserError(
      f"at least {len(rejected)} of {num_clips} clips in {options.root} ({share:.0%}) cannot be read, but "
      f"max_rejected_frac is {options.max_rejected_frac:g}: {_first(rejected)}; mend them or raise that"
    )


def _check_kept(clips: list[Clip], kept: set[str], rejected: Sequence[tuple[str, str]]) -> None:
  """Raises a UserError if a split has no clip left, or the training split none of a class."""
  split = clips[0].split
  lost = sorted({clip.label for clip in clips} - kept)
  if lost and (split == "train" or not kept):
    ids = {clip.id for clip in clips if clip.label == lost[0]}
    why = _first([entry for entry in rejected if entry[0] in ids])
    raise UserError(
      f"no clip of class {lost[0]!r} in the split {split} can be read: {why}; mend them, or remove the class"
    )


def _first(rejected: Sequence[tuple[str, str]]) -> str:
  return "; ".join(f"{clip_id}: {reason}" for clip_id, reason in rejected[:3])
