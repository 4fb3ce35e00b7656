"""SOURCE: random access to the stored clips of one split.

The contract of a source: `len(source)`, `source[i]` -> an example with the keys of `features.clip_features`, and
`label_names`. Anything with these three can feed the loader. `times_s` is there for videos of variable rate alone.
"""

import pathlib
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import tensorflow_datasets as tfds

from vu_jax.data import features  # noqa: F401  (TFDS finds EncodedVideo by importing it)
from vu_jax.data.video.stores import mapped_pixels, pixels_file
from vu_jax.errors import UserError


@runtime_checkable
class Source(Protocol):
  """What the loader needs of a dataset."""

  label_names: Sequence[str]

  def __len__(self) -> int: ...
  def __getitem__(self, index: int) -> dict[str, Any]: ...


class PreparedSource:
  """One split of a dataset that `prepare` has written."""

  def __init__(self, directory: pathlib.Path, split: str):
    builder = tfds.builder_from_directory(directory)
    if split not in builder.info.splits:
      have = ", ".join(builder.info.splits)
      raise UserError(f'the dataset in {directory} has no split "{split}" (it has {have})')
    self._opened = directory, split
    self.label_names: Sequence[str] = builder.info.features["label"].names
    self._records = builder.as_data_source(split)
    self._raw = builder.info.features["video"].codec == "raw"
    self._pixels: dict[str, np.ndarray] = {}  # flat files that are mapped into memory

  def __reduce__(self) -> tuple[Any, ...]:
    """A worker process opens the dataset itself, instead of being sent a copy of the mapped pixels."""
    return PreparedSource, self._opened

  def __len__(self) -> int:
    return len(self._records)

  def __getitem__(self, index: int) -> dict[str, Any]:
    example = self._records[index]
    video = example["video"]
    if self._raw:
      video = mapped_pixels(self._mapped(video), video, *(int(example[k]) for k in ("num_frames", "height", "width")))
    times_s = example.pop("times_s", ())
    timed = {"times_s": times_s.astype(np.float64)} if len(times_s) else {}
    return {**example, "id": example["id"].decode(), "video": video, **timed}

  def _mapped(self, place: bytes) -> np.ndarray:
    name = pixels_file(place)
    if name not in self._pixels:
      self._pixels[name] = np.memmap(self._opened[0] / name, np.uint8, "r")
    return self._pixels[name]
