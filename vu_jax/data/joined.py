"""Several datasets as one source to train on: one after the other, with the classes of all."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from jaxtyping import Int

from vu_jax.data.source import Source


class JoinedSource:
  """The examples of all sources in a row; classes of the same name are one class.

  Fields:
    label_names: those of the first source, then the new ones of each further source in their order. So labels of the
      first source stay what they are, and it can be evaluated alone.
  """

  def __init__(self, sources: Sequence[Source]):
    self._sources = tuple(sources)
    self._ends = list(accumulate(len(s) for s in sources))
    self.label_names: Sequence[str] = united(s.label_names for s in sources)
    self._labels = [label_map(s.label_names, self.label_names) for s in sources]

  def __len__(self) -> int:
    return self._ends[-1]

  @property
  def lengths(self) -> list[int]:
    """Examples of each source."""
    return [len(s) for s in self._sources]

  def __getitem__(self, index: int) -> dict[str, Any]:
    if not 0 <= index < len(self):
      raise IndexError(f"example {index} of {len(self)}")
    number = bisect_right(self._ends, index)
    start = self._ends[number - 1] if number else 0
    example = self._sources[number][index - start]
    return example | {"label": self._labels[number][int(example["label"])]}


def united(names: Any) -> list[str]:
  """Each class name once, in the order of first appearance; `names` gives the list of each dataset."""
  return list(dict.fromkeys(name for of_one in names for name in of_one))


def label_map(names: Sequence[str], all_names: Sequence[str]) -> Int[np.ndarray, " Y"]:
  """For each label of one dataset, the label of the same name among all."""
  place = {name: i for i, name in enumerate(all_names)}
  return np.array([place[name] for name in names], np.int32)
