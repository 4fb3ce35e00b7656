"""Parameters of another library's network, by name, as a tree of ours, by rules.

Nothing is guessed: a parameter without a rule, one of ours that none fills, or another shape is an error.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from vu_jax.errors import UserError

Leaves: TypeAlias = Mapping[str, np.ndarray]  # below one module there: "weight", "running_mean", "query.bias", ...
Placed: TypeAlias = Mapping[str, np.ndarray]  # below one module here: "kernel", "bias", "batch_stats:mean", ...
Kind: TypeAlias = Callable[[Leaves], Placed]
Rule: TypeAlias = tuple[str, str, Kind]


def carry(published: Mapping[str, np.ndarray], rules: Sequence[Rule], expected: Mapping[str, Any]) -> dict[str, Any]:
  """Takes every parameter to its place.

  Args:
    published: name -> array of the other network.
    rules: (regex, path, kind). The regex matches a module's name from its beginning up to a dot or the end; groups of
      it fill "{0}", "{1}" ... of the path, which is joined by "/". The first rule that matches a name counts.
    expected: our variables or their shapes, `{"params": ..., "batch_stats": ...}`; says what must be filled.

  Returns:
    A tree of float32 arrays like `expected`.

  Raises:
    UserError: names without a rule, places without a parameter, or shapes that differ; each is named.
  """
  modules: dict[tuple[str, Kind], dict[str, np.ndarray]] = {}
  unknown = []
  for name, array in published.items():
    found = _place(name, rules)
    if found is None:
      unknown.append(name)
    else:
      path, kind, leaf = found
      modules.setdefault((path, kind), {})[leaf] = np.asarray(array)
  if unknown:
    raise UserError(f"no rule says where these parameters go: {_some(unknown)}")
  filled: dict[str, np.ndarray] = {}
  for (path, kind), leaves in modules.items():
    for leaf, array in kind(leaves).items():
      collection, _, last = leaf.rpartition(":")
      filled["/".join(p for p in (collection or "params", path, last) if p)] = array
  shapes = {k: tuple(v.shape) for k, v in flatten_dict(dict(expected), sep="/").items()}
  filled = {k: _on_grid(v, shapes.get(k, v.shape)) for k, v in filled.items()}
  _check(filled, shapes)
  return unflatten_dict({k: np.asarray(v, np.float32) for k, v in filled.items()}, sep="/")


def conv(leaves: Leaves) -> Placed:
  """weight (D C *window) -> kernel (*window C D); depthwise and grouped ones, too."""
  return _kernel(leaves, lambda w: np.moveaxis(w, (0, 1), (-1, -2)))


def dense(leaves: Leaves) -> Placed:
  """weight (D C) -> kernel (C D)."""
  return _kernel(leaves, np.transpose)


def pointwise(leaves: Leaves) -> Placed:
  """A convolution with a window of one place, weight (D C 1 ...), that is a dense layer here."""
  return _kernel(leaves, lambda w: w.reshape(w.shape[:2]).T)


def norm(leaves: Leaves) -> Placed:
  """Scale, bias and, of batch norm, the stored statistics."""
  names = {
    "weight": "scale",
    "bias": "bias",
    "running_mean": "batch_stats:mean",
    "running_var": "batch_stats:var",
  }
  return {names[k]: v for k, v in leaves.items() if k != "num_batches_tracked"}


def value(leaves: Leaves) -> Placed:
  """A parameter of its own, as it is; axes of length 1 in front of its last two are left out."""
  (array,) = leaves.values()
  while array.ndim > 2 and array.shape[0] == 1:
    array = array[0]
  return {"": array}


def skip(leaves: Leaves) -> Placed:
  """Nothing: what has no use here, such as a constant."""
  del leaves
  return {}


def _kernel(leaves: Leaves, turn: Callable[[np.ndarray], np.ndarray]) -> Placed:
  return {"kernel": turn(leaves["weight"])} | ({"bias": leaves["bias"]} if "bias" in leaves else {})


def _place(name: str, rules: Sequence[Rule]) -> tuple[str, Kind, str] | None:
  for pattern, path, kind in rules:
    match = re.match(rf"(?:{pattern})(?=\.|$)", name)
    if match:
      return path.format(*match.groups()), kind, name[match.end() :].removeprefix(".")
  return None


def _on_grid(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  """A flat table of positions (N D) with the axes of the grid that it has here, (*grid D); others as they are."""
  flat = array.ndim == 2 < len(shape) and array.shape == (math.prod(shape[:-1]), shape[-1])
  return array.reshape(shape) if flat else array


def _check(filled: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> None:
  if missing := sorted(shapes.keys() - filled.keys()):
    raise UserError(f"no parameter was given for {_some(missing)}")
  if extra := sorted(filled.keys() - shapes.keys()):
    raise UserError(f"the network has no {_some(extra)}")
  if other := [f"{k} {filled[k].shape}, not {shapes[k]}" for k in sorted(shapes) if filled[k].shape != shapes[k]]:
    raise UserError(f"shapes differ: {_some(other)}")


def _some(names: Sequence[str]) -> str:
  return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
