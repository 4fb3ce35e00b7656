"""SOURCE: random access to the stored clips of one split.

The contract of a source: `len(source)`, `source[i]` -> an example with the keys of `features.clip_features`, and
`label_names`. Anything with these three can feed the loader.
"""

import pathlib
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import tensorflow_datasets as tfds

from vu_jax.data import features  # noqa: F401  (TFDS finds EncodedVideo by importing it)
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
    self.label_names: Sequence[str] = builder.info.features["label"].names
    self._records = builder.as_data_source(split)

  def __len__(self) -> int:
    return len(self._records)

  def __getitem__(self, index: int) -> dict[str, Any]:
    example = self._records[index]
    return example | {"id": example["id"].decode()}
