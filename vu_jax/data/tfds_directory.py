"""A dataset directory that TFDS prepared elsewhere, read without TensorFlow: TFRecord or ArrayRecord shards.

The directory is never written to. `read_records` streams its serialized `tf.train.Example`s in order.
"""

import contextlib
import pathlib
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader

from vu_jax.data.crc32c import crc32c
from vu_jax.errors import UserError

INFO, FEATURES = "dataset_info.json", "features.json"
_HEADER, _CHECKSUM = struct.Struct("<QI"), struct.Struct("<I")  # length and its checksum; the payload's checksum


@dataclass(frozen=True)
class Shard:
  """One file of a split; `count` is the number of records that the directory says it holds."""

  path: pathlib.Path
  count: int


def find_directory(root: pathlib.Path) -> pathlib.Path:
  """The version directory (`.../NAME/1.0.0`) that `root` is, or the only one that lies up to two folders below it.

  Raises:
    UserError: no such folder, no version directory, or several.
  """
  if not root.is_dir():
    raise UserError(f"there is no folder {root.absolute()}; set root to a directory that TFDS prepared")
  found = sorted(f.parent for depth in ("", "*/", "*/*/") for f in root.glob(depth + INFO))
  found = [root] if root in found else [f for f in found if not f.name.startswith("incomplete.")]
  if not found:
    raise UserError(
      f"{root.absolute()} holds no {INFO}; set root to a directory that TFDS prepared, such as NAME/1.0.0"
    )
  if len(found) > 1:
    names = ", ".join(str(f.relative_to(root)) for f in found[:5]) + (", ..." if len(found) > 5 else "")
    raise UserError(f"{root.absolute()} holds {len(found)} prepared datasets ({names}); set root to one of them")
  if not (found[0] / FEATURES).is_file():
    raise UserError(f"{found[0].absolute()} has no {FEATURES}: TFDS before 4.0 wrote it; prepare it anew")
  return found[0]


def open_directory(directory: pathlib.Path) -> Any:
  """The read-only TFDS builder of a version directory: its `info` names features and splits.

  Raises:
    UserError: the files that describe the dataset cannot be understood.
  """
  try:
    with _features_without_tensorflow():
      return tfds.builder_from_directory(directory)
  except (ImportError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:  # whatever a bad file meets
    lines = str(error).strip().splitlines() or [type(error).__name__]
    raise UserError(f"{directory.absolute()}: its {INFO} or {FEATURES} cannot be read ({lines[0]})") from error


def shards(builder: Any, split: str) -> list[Shard]:
  """The files of a split, in order.

  Raises:
    UserError: a format that cannot be read, or a file that is missing.
  """
  kind = builder.info.file_format.value
  if kind not in ("tfrecord", "array_record"):
    raise UserError(f"{builder.data_dir} is stored as {kind}; only tfrecord and array_record can be read")
  about = builder.info.splits[split]
  files = [pathlib.Path(path) for path in about.filepaths]
  missing = [file for file in files if not file.is_file()]
  if missing:
    raise UserError(f"{len(missing)} of {len(files)} files of the split {split} are missing (first: {missing[0]})")
  return [Shard(file, count) for file, count in zip(files, about.shard_lengths, strict=True)]


def read_records(files: Sequence[Shard], wanted: Sequence[int] | np.ndarray) -> Iterator[tuple[int, bytes]]:
  """Yields (number, serialized example) of the wanted records; others are skipped unread.

  Args:
    files: of one split, in order.
    wanted: record numbers in the split, ascending.

  Raises:
    UserError: a file is cut short or damaged; names it and the byte where that shows.
  """
  first, numbers = 0, np.asarray(wanted, dtype=np.int64)
  for shard in files:
    inside = numbers[(numbers >= first) & (numbers < first + shard.count)] - first
    if inside.size:
      read = _read_array_record if ".array_record" in shard.path.name else _read_tfrecord
      yield from ((first + number, record) for number, record in read(shard, inside.tolist()))
    first += shard.count


def _read_tfrecord(shard: Shard, wanted: Sequence[int]) -> Iterator[tuple[int, bytes]]:
  """Reads frames of 8 bytes length, 4 bytes checksum, payload, 4 bytes checksum, up to the last wanted one."""
  keep, size, offset = frozenset(wanted), shard.path.stat().st_size, 0
  with shard.path.open("rb") as file:
    for number in range(max(wanted) + 1):
      if offset == size:
        raise _damaged(shard, offset, f"ends after {number} of its {shard.count} records")
      head = file.read(_HEADER.size)
      if len(head) < _HEADER.size:
        raise _damaged(shard, offset, f"is cut short in record {number}")
      length, checksum = _HEADER.unpack(head)
      if checksum != _masked(crc32c(head[:8])):
        raise _damaged(shard, offset, f"is damaged: the length of record {number} has a wrong checksum")
      end = offset + _HEADER.size + length + _CHECKSUM.size
      if end > size:
        raise _damaged(shard, offset, f"is cut short in record {number}")
      if number in keep:
        payload = file.read(length)
        if _CHECKSUM.unpack(file.read(_CHECKSUM.size))[0] != _masked(crc32c(payload)):
          raise _damaged(shard, offset, f"is damaged: record {number} has a wrong checksum")
        yield number, payload
      else:
        file.seek(end)
      offset = end


def _read_array_record(shard: Shard, wanted: Sequence[int]) -> Iterator[tuple[int, bytes]]:
  reader = ArrayRecordReader(str(shard.path), "readahead_buffer_size:0,max_parallelism:0")
  try:
    if not reader.ok() or reader.num_records() < shard.count:
      found = reader.num_records() if reader.ok() else 0
      raise UserError(f"{shard.path}: {found} of its {shard.count} records can be found; it is cut short or damaged")
    for number in wanted:
      try:
        (record,) = reader.read([number])
      except (RuntimeError, ValueError) as error:  # Riegeli's message names the byte
        raise UserError(f"{shard.path}: record {number} is damaged ({str(error).splitlines()[0]})") from None
      yield number, record
  finally:
    if reader.is_open() and reader.ok():
      reader.close()


def _damaged(shard: Shard, offset: int, what: str) -> UserError:
  return UserError(f"{shard.path}, byte {offset}: the file {what}; copy or prepare it anew")


def signature(directory: pathlib.Path, files: Sequence[Shard]) -> list[list[Any]]:
  """Name, size [bytes] and time of change [ns] of the files of a directory: differs when its content does."""
  paths = [directory / INFO, directory / FEATURES, *(shard.path for shard in files)]
  return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in paths]


def _masked(crc: int) -> int:
  """A CRC as TFRecord stores it: rotated right by 15 bits, plus a constant."""
  return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@contextlib.contextmanager
def _features_without_tensorflow() -> Iterator[None]:
  """While open, TFDS can construct the features Video and Audio without TensorFlow, for reading only.

  Their own constructors ask TensorFlow for dtypes and nothing else that reading needs.
  """
  replaced: Mapping[type, Callable[..., None]] = {
    tfds.features.Video: _init_video,
    tfds.features.Audio: _init_audio,
  }
  own = {feature: feature.__init__ for feature in replaced}
  try:
    for feature, init in replaced.items():
      feature.__init__ = init
    yield
  finally:
    for feature, init in own.items():
      feature.__init__ = init


def _init_video(
  self: Any,
  shape: Sequence[int | None] | None = None,
  encoding_format: str | None = "png",
  ffmpeg_extra_args: Sequence[str] = (),
  use_colormap: bool = False,
  dtype: Any = np.uint8,
  doc: Any = None,
) -> None:
  """`tfds.features.Video.__init__` of TFDS 4.9, with numpy's dtypes."""
  self._encoding_format, self._extra_ffmpeg_args = encoding_format, list(ffmpeg_extra_args)
  image = tfds.features.Image(
    shape=tuple(shape[1:]) if shape else None,
    dtype=np.dtype(dtype),
    encoding_format=encoding_format,
    use_colormap=use_colormap,
  )
  tfds.features.Sequence.__init__(self, image, length=shape[0] if shape else None, doc=doc)


def _init_audio(
  self: Any,
  *,
  file_format: str | None = None,
  shape: Sequence[int | None] = (None,),
  dtype: Any = np.int64,
  sample_rate: int | None = None,
  encoding: Any = tfds.features.Encoding.NONE,
  doc: Any = None,
  lazy_decode: bool = False,
) -> None:
  """`tfds.features.Audio.__init__` of TFDS 4.9, without a decoder: what is stored is what is read."""
  self._file_format, self._sample_rate, self._lazy_decode = file_format, sample_rate, lazy_decode
  stored = dict(serialized_dtype=np.object_, serialized_shape=()) if lazy_decode else {}
  tfds.features.Tensor.__init__(self, shape=tuple(shape), dtype=dtype, encoding=encoding, doc=doc, **stored)
