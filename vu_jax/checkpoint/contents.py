"""What a checkpoint says of itself: the list of its arrays tells whether it is of this network at all."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from vu_jax.errors import UserError


def arrays(tree: Any) -> dict[str, list[Any]]:
  """Path of every array -> [dtype, shape], such as {"params/head/logits/bias": ["float32", [8]]}."""
  leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
  return {jax.tree_util.keystr(p, simple=True, separator="/"): [str(x.dtype), list(x.shape)] for p, x in leaves}


def check_arrays(there: Mapping[str, Any], here: Mapping[str, Any], folder: pathlib.Path) -> None:
  """Raises UserError, naming the first arrays that differ, if a checkpoint is of another network than this one."""
  names = [*here, *(name for name in there if name not in here)]
  other = [name for name in names if there.get(name) != here.get(name)]
  if other:
    shown = ", ".join(f"{name} is {_text(there.get(name))} there, {_text(here.get(name))} here" for name in other[:3])
    more = f", and {len(other) - 3} more differ" if len(other) > 3 else ""
    raise UserError(f"{folder} is a checkpoint of another network: {shown}{more}; choose another --workdir")


def read_about(folder: pathlib.Path) -> dict[str, Any]:
  """What a checkpoint says of itself."""
  return json.loads((folder / "about" / "metadata").read_text())


def _text(array: Sequence[Any] | None) -> str:
  return f"{array[0]} ({' '.join(map(str, array[1]))})" if array else "missing"
