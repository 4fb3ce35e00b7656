"""PREPARE: a builder's options -> a prepared dataset on disk, and what is in it."""

import contextlib
import json
import logging
import os
import pathlib
import shutil
from collections import Counter
from collections.abc import Callable
from typing import Any

import av
import cv2
import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Int

from vu_jax.config import find_module, plain
from vu_jax.data.clips import Clip, check_length
from vu_jax.data.features import ClipsConfig
from vu_jax.data.video.view import Pixels, resized
from vu_jax.errors import UserError

FACTS = "facts.json"
LABELS = "labels_{}.npy"  # per split: int32, by index
Progress = Callable[[int, int], None]


def default_data_dir() -> pathlib.Path:
  """Where prepared datasets live: $VU_JAX_DATA, else ~/.cache/vu_jax."""
  return pathlib.Path(os.environ.get("VU_JAX_DATA") or pathlib.Path.home() / ".cache" / "vu_jax")


def prepare(name: str, options: Any, data_dir: pathlib.Path, progress: Progress | None = None) -> pathlib.Path:
  """Builds the dataset unless it is there already.

  Args:
    name: file of `vu_jax/data/builders`, or a dotted path.
    options: its `Options`.
    data_dir: parent of all prepared datasets.
    progress: called with (clips done, clips in all).

  Returns:
    The prepared folder, `data_dir/<name>/<fingerprint>/<version>`; `facts.json` in it is written last and says that
    it is complete.
  """
  module = find_module("data", name)
  config = ClipsConfig(name=module.fingerprint(options), options=options)
  tfds.disable_progress_bar()
  _quiet()
  builder = module.Builder(data_dir=data_dir, config=config)
  directory = pathlib.Path(builder.data_dir)
  if (directory / FACTS).exists():
    return directory
  if hasattr(builder, "estimated_bytes"):
    _check_space(data_dir, builder.estimated_bytes())
  if progress is not None:
    builder.progress = progress
  with contextlib.redirect_stdout(None):  # its prints speak of downloads; there are none
    builder.download_and_prepare(file_format="array_record")
  rejected = [{"id": i, "reason": r} for i, r in builder.rejected]
  raw = builder.info.features["video"].codec == "raw"
  rows = {split: _rows(builder.as_data_source(split), raw) for split in builder.info.splits}
  for split, found in rows.items():
    _write_labels(directory, split, [int(r["label"]) for r in found])
  facts = {"name": name, "options": plain(options), **_described(builder, rows), "rejected": rejected}
  if psnr_db := (builder.info.metadata or {}).get("psnr_db"):
    facts["psnr_db"] = psnr_db
  facts["made_with"] = {"av": av.__version__, "opencv": cv2.__version__}  # they decode and scale
  scratch = directory / f"{FACTS}.tmp"
  scratch.write_text(json.dumps(facts, indent=2))
  scratch.rename(directory / FACTS)
  return directory


def read_facts(directory: pathlib.Path) -> dict[str, Any]:
  """The facts of a prepared dataset: name, options, labels, splits, rejected files."""
  return json.loads((directory / FACTS).read_text())


def describe(builder: Any) -> dict[str, Any]:
  """Reads every record once: labels, and per split the clips, classes, lengths, frame sizes and bytes."""
  return _described(builder, {split: _rows(builder.as_data_source(split)) for split in builder.info.splits})


def read_labels(directory: pathlib.Path, split: str) -> Int[np.ndarray, " N"]:
  """The label of every example of a split, by index, without opening the examples.

  A dataset that was prepared before labels were kept is read through once, and they are kept from then on.
  """
  path = directory / LABELS.format(split)
  if not path.is_file():
    source = tfds.builder_from_directory(directory).as_data_source(split)
    _write_labels(directory, split, [int(source[i]["label"]) for i in range(len(source))])
  return np.load(path)


def check_split(facts: dict[str, Any], split: str, where: str) -> None:
  """Raises UserError if the dataset lacks a split; `where` is the key that named it."""
  if split not in facts["splits"]:
    have = ", ".join(facts["splits"])
    raise UserError(f'{where} = "{split}": the dataset has no such split (it has {have})')


def check_stored(facts: dict[str, Any], clip: Clip, pixels: Pixels) -> None:
  """Raises UserError if the shortest or smallest stored video cannot give the configured clip; names it."""
  for split, about in facts["splits"].items():
    shortest, smallest = about["shortest"], about["smallest"]
    try:
      check_length(clip, shortest["num_frames"], shortest["fps"])
    except UserError as error:
      raise UserError(f"{split} video {shortest['id']}: {error}") from None
    try:
      resized(pixels, smallest["height"], smallest["width"])
    except UserError as error:
      raise UserError(f"{split} video {smallest['id']}: {error}") from None


def _check_space(data_dir: pathlib.Path, need: int) -> None:
  """Raises UserError if the disk cannot hold so many bytes more."""
  place = next(folder for folder in (data_dir, *data_dir.absolute().parents) if folder.exists())
  free = shutil.disk_usage(place).free
  if need > free:
    raise UserError(
      f"the stored clips need about {need / 2**30:.1f} GiB, but {data_dir.absolute()} has {free / 2**30:.1f} GiB free: "
      "name another place with --data_dir, or lower config.data.short_side"
    )


def _rows(records: Any, raw: bool = False) -> list[dict[str, Any]]:
  """What the facts are made of; the videos themselves are let go one by one, and those of the store "raw" not read."""
  facts = ("label", "id", "num_frames", "fps", "height", "width")
  rows = []
  for record in records:
    row = {k: record[k] for k in facts}
    pixels = 3 * int(row["num_frames"]) * int(row["height"]) * int(row["width"])
    rows.append(row | {"bytes": pixels if raw else len(record["video"])})
  return rows


def _write_labels(directory: pathlib.Path, split: str, labels: list[int]) -> None:
  scratch = directory / f"{LABELS.format(split)}.tmp"
  with scratch.open("wb") as file:
    np.save(file, np.array(labels, np.int32))
  scratch.rename(directory / LABELS.format(split))


def _described(builder: Any, rows: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
  labels = builder.info.features["label"].names
  return {"labels": labels, "splits": {split: _describe_split(found, labels) for split, found in rows.items()}}


def _describe_split(rows: list[dict[str, Any]], labels: list[str]) -> dict[str, Any]:
  classes = Counter(labels[int(r["label"])] for r in rows)
  frames = [int(r["num_frames"]) for r in rows]
  return {
    "clips": len(rows),
    "classes": {label: classes[label] for label in labels},
    "frames": {"min": min(frames), "median": float(np.median(frames)), "max": max(frames)},
    "seconds": round(float(sum(r["num_frames"] / r["fps"] for r in rows)), 2),
    "fps": sorted({round(float(r["fps"]), 2) for r in rows})[:20],
    "sizes_px": Counter(f"{r['width']}x{r['height']}" for r in rows).most_common(20),
    "bytes": int(sum(r["bytes"] for r in rows)),
    "shortest": _named(min(rows, key=lambda r: int(r["num_frames"]))),
    "smallest": _named(min(rows, key=lambda r: min(r["height"], r["width"]))),
  }


def _named(row: dict[str, Any]) -> dict[str, Any]:
  numbers = {k: int(row[k]) for k in ("num_frames", "height", "width")}
  return {"id": row["id"].decode(), "fps": float(row["fps"]), **numbers}


def _quiet() -> None:
  """TFDS warns about every configuration that is not one of its catalogue's; ours never are."""
  logging.getLogger("absl").setLevel(logging.ERROR)
