"""The files of a part, and how those of all parts become one TFDS dataset.

A part is written into a folder of another name and then renamed, so what bears the name is whole. When all are there,
their record files become the files of the dataset by being renamed once more: nothing is read or copied.
"""

import contextlib
import json
import math
import os
import pathlib
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import av
import cv2
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter

from vu_jax.data.changes import Stamp
from vu_jax.data.describe import DTYPES, Columns, as_columns, audio_bytes, joined
from vu_jax.data.listing.folders import SPLITS, Clip
from vu_jax.data.parts import Parts
from vu_jax.data.video.packets import VideoError
from vu_jax.data.video.stores import append_pixels
from vu_jax.data.video.transcode import Encoded
from vu_jax.errors import UserError

_FORMAT = "array_record"
_ABOUT = "about.json"  # of a part: its clips, what was rejected and why, what made it
Rejected = Sequence[tuple[str, str]]  # (id of a clip, why it is not there)
Made = Iterable[tuple[Clip, Encoded | VideoError]]


@runtime_checkable
class InParts(Protocol):
  """A builder whose clips can be made one by one, in any order, by several processes."""

  name: str
  info: Any

  @property
  def clips(self) -> list[Clip]: ...
  @property
  def sources(self) -> Mapping[str, Stamp]: ...
  def make(self, clip: Clip) -> Encoded | VideoError: ...
  def example(self, clip: Clip, encoded: Encoded) -> dict[str, Any]: ...
  def estimated_bytes(self, clips: Sequence[Clip] | None = None) -> int: ...
  def check_rejected(self, rejected: Rejected) -> None: ...
  def check_kept(self, kept: Mapping[str, set[str]], rejected: Rejected) -> None: ...


def made_with() -> dict[str, str]:
  """Versions of what decodes and scales."""
  return {"av": av.__version__, "opencv": cv2.__version__}


def write_part(parts: Parts, part: int, made: Made, builder: InParts) -> None:
  """Writes a part; if another process has been faster, with it or with the whole dataset, theirs stays.

  Raises:
    UserError: the disk is full, or what making the clips raises.
  """
  scratch = parts.folder / f"{parts.path(part).name}.{uuid.uuid4().hex}"
  try:
    scratch.mkdir()
    _write(scratch, f"pixels-{part:05d}.u8", made, builder)
    for file in scratch.iterdir():
      with file.open("rb") as content:
        os.fsync(content.fileno())  # a name must not outlive its content when the machine fails
    scratch.rename(parts.path(part))
  except (OSError, RuntimeError) as error:  # of ArrayRecord, RuntimeError
    if "No space left" in str(error) or "quota exceeded" in str(error).lower():
      raise UserError(
        f"{parts.folder}: the disk is full; what is finished is kept: make room and give the same command again"
      ) from None
    if parts.folder.exists() and not parts.is_done(part):
      raise
  finally:
    shutil.rmtree(scratch, ignore_errors=True)


def _write(folder: pathlib.Path, pixels: str, made: Made, builder: InParts) -> None:
  features, files = builder.info.features, {}
  rejected, psnr_db = [], []
  for clip, encoded in made:
    if isinstance(encoded, VideoError):
      rejected.append((clip.id, str(encoded)))
      continue
    example = builder.example(clip, encoded)
    sizes = {"bytes": len(encoded.video), "audio_bytes": audio_bytes(example)}
    facts = example | {"label": features["label"].str2int(clip.label), **sizes}
    if features["video"].codec == "raw":
      example["video"] = append_pixels(folder, encoded.video, pixels)
    if clip.split not in files:
      files[clip.split] = _SplitFile(folder / f"{clip.split}.{_FORMAT}")
    files[clip.split].add(features.serialize_example(example), facts)
    if math.isfinite(encoded.psnr_db):
      psnr_db.append(encoded.psnr_db)
  splits = {split: file.close() for split, file in files.items()}
  about = {"splits": splits, "rejected": rejected, "psnr_db": psnr_db, "made_with": made_with()}
  (folder / _ABOUT).write_text(json.dumps(about))


class _SplitFile:
  """The records of one split in one part, and the facts of their clips."""

  def __init__(self, path: pathlib.Path):
    self._writer = ArrayRecordWriter(str(path), "group_size:1")
    self._columns: dict[str, list[Any]] = {name: [] for name in DTYPES}
    self._num_bytes = 0

  def add(self, record: bytes, facts: Mapping[str, Any]) -> None:
    self._writer.write(record)
    self._num_bytes += len(record)
    for name, column in self._columns.items():
      column.append(facts[name])

  def close(self) -> dict[str, Any]:
    self._writer.close()
    return {"num_bytes": self._num_bytes, "columns": self._columns}


def read_rejected(parts: Parts, finished: Iterable[int]) -> list[tuple[str, str]]:
  """What finished parts have rejected; those that another process has just made a dataset of are left out."""
  found: list[tuple[str, str]] = []
  for part in finished:
    with contextlib.suppress(FileNotFoundError):
      found += [(key, reason) for key, reason in _about(parts, part)["rejected"]]
  return found


def assemble(parts: Parts, builder: InParts, directory: pathlib.Path) -> tuple[dict[str, Columns], dict[str, Any]]:
  """Makes the finished parts one dataset in `directory`; a call that was broken off is simply made again.

  Returns:
    Facts of the clips of each split, and the entries of facts.json that the parts know.

  Raises:
    UserError: too much is rejected.
  """
  directory.mkdir(exist_ok=True)
  abouts = [_about(parts, part) for part in range(len(parts))]
  place = {clip.id: number for number, clip in enumerate(builder.clips)}
  rejected = sorted((tuple(item) for about in abouts for item in about["rejected"]), key=lambda item: place[item[0]])
  columns = {
    split: joined([as_columns(about["splits"][split]["columns"]) for about in abouts if split in about["splits"]])
    for split in SPLITS
    if any(split in about["splits"] for about in abouts)
  }
  labels = builder.info.features["label"].names
  builder.check_rejected(rejected)
  builder.check_kept({split: {labels[y] for y in set(found["label"])} for split, found in columns.items()}, rejected)
  infos = [_gather(parts, abouts, builder.name, split, directory) for split in columns]
  for part in range(len(parts)):
    for pixels in parts.path(part).glob("*.u8"):
      pixels.rename(directory / pixels.name)
  facts: dict[str, Any] = {"rejected": [{"id": key, "reason": reason} for key, reason in rejected]}
  if psnr_db := [value for about in abouts for value in about["psnr_db"]]:
    facts["psnr_db"] = round(sum(psnr_db) / len(psnr_db), 2)
  facts["made_with"] = {k: " and ".join(sorted({about["made_with"][k] for about in abouts})) for k in made_with()}
  builder.info.set_file_format(_FORMAT, override=True)
  builder.info.set_splits(tfds.core.splits.SplitDict(infos))
  builder.info.metadata.update({"rejected": rejected} | {k: v for k, v in facts.items() if k == "psnr_db"})
  builder.info.write_to_directory(directory)
  return columns, facts


def _gather(parts: Parts, abouts: Sequence[Any], name: str, split: str, directory: pathlib.Path) -> Any:
  """Renames the record files of a split; returns what TFDS knows of the split."""
  pieces = {part: about["splits"][split] for part, about in enumerate(abouts) if split in about["splits"]}
  template = tfds.core.ShardedFileTemplate(data_dir=directory, dataset_name=name, split=split, filetype_suffix=_FORMAT)
  for number, part in enumerate(pieces):
    file = parts.path(part) / f"{split}.{_FORMAT}"
    if file.exists():  # else it was moved before
      file.rename(template.sharded_filepath(shard_index=number, num_shards=len(pieces)))
  return tfds.core.SplitInfo(
    name=split,
    shard_lengths=[len(piece["columns"]["id"]) for piece in pieces.values()],
    num_bytes=sum(piece["num_bytes"] for piece in pieces.values()),
    filename_template=template,
  )


def _about(parts: Parts, part: int) -> dict[str, Any]:
  return json.loads((parts.path(part) / _ABOUT).read_text())
