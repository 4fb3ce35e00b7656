"""A directory that TFDS prepared (moving_mnist, ucf101, bair_robot_pushing_small, ...) -> stored clips, no TensorFlow.

Such directories hold every frame as a PNG or JPEG picture. The records are read in order, as they are, so nothing is
written but the stored clips.
"""

import functools
import hashlib
import json
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import cv2
import numpy as np
import tensorflow_datasets as tfds
from google.protobuf.message import DecodeError
from jaxtyping import UInt8
from tensorflow_datasets.proto import tf_example_pb2

from vu_jax.build import nearest
from vu_jax.config import plain
from vu_jax.data.features import clip_features
from vu_jax.data.parallel import in_order
from vu_jax.data.tfds_directory import find_directory, open_directory, read_records, shards, signature
from vu_jax.data.video.packets import VideoError
from vu_jax.data.video.picture import resize, scaled_size
from vu_jax.data.video.transcode import Encoded, encode_video
from vu_jax.errors import UserError
from vu_jax.glossary import Count, CountOrZero, Fraction, Positive, Range

_VERSION = "1.0.0"  # to be raised when the same options give other stored clips
UNLABELLED = "unlabelled"  # the one class of a dataset without labels


@dataclass(frozen=True, kw_only=True)
class Options:
  """Which dataset, what of it, and how it is stored.

  Fields:
    root: version directory that TFDS prepared (`.../ucf101/ucf101_1_256/2.0.0`), or a folder above it.
    video_key: feature that holds the frames, such as "image_main"; "" = the only one there is.
    label_key: feature of type ClassLabel; "" = the only one there is, and without one all clips are "unlabelled".
    train_split: the set's split to train on.
    validation_split, test_split: likewise; "" = the set's own validation or test, else a share of the training split.
    validation_frac, test_frac: those shares.
    fps: frame rate [1/s]; TFDS videos carry none.
    short_side: stored short side [px]; smaller videos are not enlarged, but made even.
    crf: quality of the stored H.264; lower is better and bigger.
    max_clips: clips that are taken of each split, to try things; 0 = all.
    max_rejected_frac: share of clips that cannot be read, above which preparing stops.
    seed: of the shares.
  """

  root: str
  video_key: str = ""
  label_key: str = ""
  train_split: str = "train"
  validation_split: str = ""
  test_split: str = ""
  validation_frac: Fraction = 0.0
  test_frac: Fraction = 0.2
  fps: Positive = 25.0
  short_side: Count = 128
  crf: Annotated[int, Range(low=0, high=51)] = 18
  max_clips: CountOrZero = 0
  max_rejected_frac: Fraction = 0.1
  seed: CountOrZero = 0

  def __post_init__(self) -> None:
    if self.validation_frac + self.test_frac >= 1:
      raise UserError(
        f"validation_frac = {self.validation_frac:g} and test_frac = {self.test_frac:g} must add up to less than 1"
      )


@dataclass(frozen=True, eq=False)
class Catalogue:
  """An opened directory: its TFDS builder, the features that are used, the class names."""

  directory: pathlib.Path
  builder: Any
  video_key: str
  label_key: str  # "" = none
  labels: Sequence[str]


def open_catalogue(options: Options) -> Catalogue:
  """Opens the directory and finds its video and its label; raises the UserErrors of both."""
  directory = find_directory(pathlib.Path(options.root).expanduser())
  builder = open_directory(directory)
  leaves = {
    key: (feature, depth) for key, feature, depth in sorted(_leaves(builder.info.features), key=lambda leaf: leaf[0])
  }
  has = f"{directory} has " + ", ".join(f"{k} ({'sequence of ' * d}{type(f).__name__})" for k, (f, d) in leaves.items())
  video_key = _chosen("video_key", options.video_key, [k for k, leaf in leaves.items() if _is_video(*leaf)], has)
  label_key = _chosen("label_key", options.label_key, [k for k, leaf in leaves.items() if _is_label(*leaf)], has)
  if not video_key:
    raise UserError(f"none of its features is a video of 8-bit pictures: {has}")
  labels = leaves[label_key][0].names if label_key else [UNLABELLED]
  return Catalogue(directory, builder, video_key, label_key, labels)


def divide(options: Options, sizes: Mapping[str, int]) -> dict[str, tuple[str, np.ndarray]]:
  """Which records become which split.

  Args:
    options: name the set's splits, or shares of the training split.
    sizes: records of each split of the set.

  Returns:
    Our split -> (the set's split, ascending record numbers); an empty one is left out.

  Raises:
    UserError: the set has no such split, or one of its splits would be used twice.
  """
  source = {"train": options.train_split}
  for split, name in (("validation", options.validation_split), ("test", options.test_split)):
    if name or (split in sizes and split != options.train_split):
      source[split] = name or split
  for split, name in source.items():
    if name not in sizes:
      raise UserError(f'{split}_split = "{name}": {options.root} has no such split (it has {", ".join(sizes)})')
    if not sizes[name]:
      raise UserError(f'{split}_split = "{name}": the split has no records in {options.root}')
    if list(source.values()).count(name) > 1:
      raise UserError(f'{split}_split = "{name}": already used; leave it out to take a share of the training split')
  size = sizes[options.train_split]
  order = sorted(range(size), key=lambda n: hashlib.sha256(f"{options.seed}/{n}".encode()).digest())
  numbers: dict[str, Sequence[int]] = {}
  for split, share in (("validation", options.validation_frac), ("test", options.test_frac)):
    if split in source:
      numbers[split] = range(sizes[source[split]])
    else:
      taken = min(max(1, round(share * size)) if share else 0, len(order) - 1)
      numbers[split], order = order[:taken], order[taken:]
  numbers = {"train": order, **numbers}
  most = options.max_clips or None
  return {
    split: (source.get(split, options.train_split), np.sort(np.asarray(chosen, np.int64))[:most])
    for split, chosen in numbers.items()
    if len(chosen)
  }


def fingerprint(options: Options) -> str:
  """Short hash of all that decides what is stored: options, and size and date of every file that is read.

  It does not change when the directory is moved.

  Raises:
    UserError: the directory cannot be used.
  """
  found = open_catalogue(options)
  used = sorted({source for source, _ in divide(options, _sizes(found)).values()})
  files = signature(found.directory, [shard for split in used for shard in shards(found.builder, split)])
  stored = {k: v for k, v in plain(options).items() if k != "root"}
  return hashlib.sha256(json.dumps([_VERSION, stored, files]).encode()).hexdigest()[:12]


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
  """Stores the clips of a prepared TFDS directory as small all-intra video (`vu_jax.data.video.transcode`).

  Attributes:
    progress: called with (clips finished, clips in all) as they finish; None = silent.
    rejected: (id, reason) of the clips that could not be read; also in `info.metadata`.
  """

  name = "tfds_folder"
  VERSION = tfds.core.Version(_VERSION)
  progress: Callable[[int, int], None] | None = None

  @property
  def rejected(self) -> list[tuple[str, str]]:
    return [(clip_id, reason) for clip_id, reason in (self.info.metadata or {}).get("rejected", [])]

  @functools.cached_property
  def catalogue(self) -> Catalogue:
    return open_catalogue(self.builder_config.options)

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description=f"Clips of {self.catalogue.builder.info.full_name}.",
      features=clip_features(self.catalogue.labels),
      metadata=tfds.core.MetadataDict(),
    )

  def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
    self.info.metadata["rejected"] = []
    parts = divide(self.builder_config.options, _sizes(self.catalogue))
    self._finished, self._total = 0, sum(len(numbers) for _, numbers in parts.values())
    return {split: self._generate_examples(*part) for split, part in parts.items()}

  def _generate_examples(self, source: str, numbers: np.ndarray) -> Iterator[tuple[str, dict[str, Any]]]:
    """Examples of one split, in the order of the records."""
    options: Options = self.builder_config.options
    records = read_records(shards(self.catalogue.builder, source), numbers)
    for (number, _), stored in in_order(lambda item: _store(options, self.catalogue, item[1]), records):
      clip_id = f"{source}/{number:06d}"
      self._finished += 1
      if self.progress:
        self.progress(self._finished, self._total)
      if isinstance(stored, VideoError):
        self.info.metadata["rejected"].append([clip_id, str(stored)])
        _check_share(self.rejected, self._total, options)
      else:
        yield clip_id, {"id": clip_id, **stored}


def read_frames(pictures: Iterable[bytes]) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
  """Decodes PNG or JPEG pictures to RGB; gray ones are repeated over the channels, transparency is dropped.

  Raises:
    VideoError: a picture cannot be decoded, or differs from the first in size.
  """
  size = None
  for number, picture in enumerate(pictures):
    decoded = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_UNCHANGED) if picture else None
    if decoded is None or decoded.dtype != np.uint8:
      raise VideoError(f"picture {number} is damaged, or not an 8-bit picture")
    size = size or decoded.shape[:2]
    if decoded.shape[:2] != size:
      raise VideoError(f"picture {number} has another size than the first: {decoded.shape[:2]} and {size} px")
    channels = decoded.shape[2] if decoded.ndim == 3 else 1
    to_rgb = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}[channels]
    yield cv2.cvtColor(decoded, to_rgb)


def _store(options: Options, found: Catalogue, record: bytes) -> dict[str, Any] | VideoError:
  """The stored clip of one record without its id, or why there is none."""
  try:
    feature = tf_example_pb2.Example.FromString(record).features.feature
    pictures = feature[found.video_key].bytes_list.value
    if not pictures:
      raise VideoError("it has no frames")
    label = feature[found.label_key].int64_list.value[0] if found.label_key else 0
    if not 0 <= label < len(found.labels):  # TFDS writes -1 for test clips whose labels are secret
      raise VideoError(f"its label is {label}, which is none of the {len(found.labels)} classes")
    encoded = encode_video(_scaled(read_frames(pictures), options.short_side), options.fps, options.crf)
  except (VideoError, DecodeError, IndexError) as error:
    return error if isinstance(error, VideoError) else VideoError(f"its record cannot be understood ({error})")
  return _example(label, encoded)


def _example(label: int, encoded: Encoded) -> dict[str, Any]:
  return {
    "video": encoded.video,
    "label": label,
    "num_frames": encoded.num_frames,
    "fps": encoded.fps,
    "height": encoded.height,
    "width": encoded.width,
  }


def _scaled(frames: Iterable[np.ndarray], short_side: int) -> Iterator[np.ndarray]:
  for rgb in frames:
    yield resize(rgb, scaled_size(rgb.shape[:2], short_side, enlarge=False))


def _check_share(rejected: list[tuple[str, str]], total: int, options: Options) -> None:
  """Raises a UserError as soon as too many clips are rejected."""
  if len(rejected) / total > options.max_rejected_frac:
    clip_id, reason = rejected[0]
    raise UserError(
      f"at least {len(rejected)} of {total} clips in {options.root} cannot be used, but max_rejected_frac is "
      f"{options.max_rejected_frac:g} (first: {clip_id}: {reason})"
    )


def _sizes(found: Catalogue) -> dict[str, int]:
  return {split: about.num_examples for split, about in found.builder.info.splits.items()}


def _leaves(feature: Any, key: str = "", depth: int = 0) -> Iterator[tuple[str, Any, int]]:
  """(key as in a record, feature, number of sequences around it) of all features that hold no other."""
  if isinstance(feature, tfds.features.FeaturesDict):
    for name, inner in feature.items():
      yield from _leaves(inner, f"{key}/{name}" if key else name, depth)
  elif isinstance(feature, tfds.features.Sequence) and not isinstance(feature, tfds.features.Dataset):
    yield from _leaves(feature.feature, key, depth + 1)
  else:
    yield key, feature, depth


def _is_video(feature: Any, depth: int) -> bool:
  return depth == 1 and type(feature) is tfds.features.Image and feature.np_dtype == np.uint8


def _is_label(feature: Any, depth: int) -> bool:
  return depth == 0 and type(feature) is tfds.features.ClassLabel and bool(feature.num_classes)


def _chosen(option: str, given: str, known: list[str], has: str) -> str:
  """The feature that is given, or the only one that there is; "" if there is none."""
  if given and given not in known:
    raise UserError(f'{option} = "{given}": cannot be used as that{nearest(given, known)} ({has})')
  if not given and len(known) > 1:
    raise UserError(f"{option} must be set to one of {', '.join(known)} ({has})")
  return given or "".join(known)
