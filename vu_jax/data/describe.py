"""What is in a dataset: a few facts of every clip, as columns, and what they say about each split."""

import pathlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from vu_jax.disk import replacing

FACTS = "facts.json"  # written last: a dataset that has it is complete
LABELS = "labels_{}.npy"  # per split: int32, by index
# Facts of one clip; `bytes` are those of its stored video, `audio_bytes` of its sound: 0 = silent, -1 = none is kept.
DTYPES: Mapping[str, Any] = {
  "id": object,
  "label": np.int32,
  "num_frames": np.int32,
  "fps": np.float32,
  "height": np.int32,
  "width": np.int32,
  "bytes": np.int64,
  "audio_bytes": np.int64,
}
Columns: TypeAlias = dict[str, np.ndarray]  # fact -> its value for every clip, in the order of the records


def read_columns(records: Iterable[Mapping[str, Any]], raw: bool = False) -> Columns:
  """The facts of records; their videos are let go one by one, and those of the store "raw" not read."""
  found: dict[str, list[Any]] = {name: [] for name in DTYPES}
  for record in records:
    pixels = 3 * int(record["num_frames"]) * int(record["height"]) * int(record["width"])
    sizes = {"bytes": pixels if raw else len(record["video"]), "audio_bytes": audio_bytes(record)}
    facts = {**record, "id": record["id"].decode(), **sizes}
    for name, column in found.items():
      column.append(facts[name])
  return as_columns(found)


def audio_bytes(record: Mapping[str, Any]) -> int:
  """See `DTYPES`."""
  return len(record["audio"]) if "audio" in record else -1


def as_columns(found: Mapping[str, Sequence[Any]]) -> Columns:
  return {name: np.array(found[name], dtype) for name, dtype in DTYPES.items()}


def joined(pieces: Sequence[Columns]) -> Columns:
  return {name: np.concatenate([piece[name] for piece in pieces]) for name in DTYPES}


def described(labels: Sequence[str], columns: Mapping[str, Columns]) -> dict[str, Any]:
  """Labels, and per split the clips, classes, lengths, frame sizes and bytes: the core of facts.json."""
  return {"labels": list(labels), "splits": {split: _describe_split(found, labels) for split, found in columns.items()}}


def write_labels(directory: pathlib.Path, split: str, labels: Sequence[int] | np.ndarray) -> None:
  """Keeps the labels of a split beside its records."""
  with replacing(directory / LABELS.format(split)) as scratch, scratch.open("wb") as file:
    np.save(file, np.asarray(labels, np.int32))


def _describe_split(clips: Columns, labels: Sequence[str]) -> dict[str, Any]:
  counts, frames = np.bincount(clips["label"], minlength=len(labels)), clips["num_frames"]
  sizes = zip(clips["width"].tolist(), clips["height"].tolist(), strict=True)
  return {
    "clips": len(frames),
    "classes": dict(zip(labels, counts.tolist(), strict=True)),
    "frames": {"min": int(frames.min()), "median": float(np.median(frames)), "max": int(frames.max())},
    "seconds": round(float((frames / clips["fps"]).sum()), 2),
    "fps": sorted({round(fps, 2) for fps in np.unique(clips["fps"]).tolist()})[:20],
    "sizes_px": Counter(f"{width}x{height}" for width, height in sizes).most_common(20),
    "bytes": int(clips["bytes"].sum()),
    "shortest": _named(clips, int(frames.argmin())),
    "smallest": _named(clips, int(np.minimum(clips["height"], clips["width"]).argmin())),
    **_describe_sound(clips),
  }


def _describe_sound(clips: Columns) -> dict[str, Any]:
  """Clips with sound, its bytes, and a clip without; nothing where no sound is kept."""
  sizes = clips["audio_bytes"]
  if (sizes < 0).any():
    return {}
  silent = clips["id"][sizes == 0]
  return {"sound": {"clips": int((sizes > 0).sum()), "bytes": int(sizes.sum()), "without": [*silent[:1]]}}


def _named(clips: Columns, index: int) -> dict[str, Any]:
  numbers = {name: int(clips[name][index]) for name in ("num_frames", "height", "width")}
  return {"id": str(clips["id"][index]), "fps": float(clips["fps"][index]), **numbers}
