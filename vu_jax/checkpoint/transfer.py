"""Parameters of another run, or of a file, as the start of a new one; what goes where is said, nothing is guessed."""

import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax.traverse_util import flatten_dict, unflatten_dict

from vu_jax.checkpoint.contents import read_about
from vu_jax.checkpoint.saving import FOLDER, PREFIX, Checkpoints
from vu_jax.errors import UserError

Which: TypeAlias = Literal["latest", "best"]
Flat: TypeAlias = Mapping[str, np.ndarray]  # "params/backbone/stem/kernel", "batch_stats/backbone/..."


@dataclass(frozen=True)
class Transfer:
  """What became of every array, by path.

  Fields:
    source: where they come from.
    loaded: as they are. resized: tables of positions, with both shapes.
    skipped: of the source, not used. new: of the network, as initialised.
  """

  source: str
  loaded: list[str] = field(default_factory=list)
  resized: list[str] = field(default_factory=list)
  skipped: list[str] = field(default_factory=list)
  new: list[str] = field(default_factory=list)

  def lines(self, shown: int = 4) -> list[str]:
    """One line per kind: how many, and which; names only as many as shown."""
    kinds = {k: v for k, v in asdict(self).items() if k != "source" and v}
    return [
      f"{len(names)} {kind}" + ("" if kind == "loaded" else f": {some(names, shown)}") for kind, names in kinds.items()
    ]


def read_variables(source: pathlib.Path, which: Which) -> tuple[Flat, str]:
  """The variables of a run (averaged parameters, where it has those) or of an .npz file, and what they are.

  The names in a file are those of `flatten_dict({"params": ..., "batch_stats": ...}, sep="/")`.

  Raises:
    UserError: there is no such file, or no such checkpoint.
  """
  if source.suffix == ".npz" and source.is_file():
    with np.load(source, allow_pickle=False) as file:
      return {name: file[name] for name in file.files}, str(source)
  if not (source / FOLDER).is_dir():
    raise UserError(f'config.train.init_from = "{source}": neither a run directory with checkpoints nor an .npz file')
  checkpoints = Checkpoints(source, read_only=True)
  steps = checkpoints.steps()
  scores = {step: figures for step, figures in checkpoints.scores.items() if step in steps}
  checkpoints.close()
  if not steps or (which == "best" and not scores):
    raise UserError(f'config.train.init_from = "{source}": has no checkpoint{" with an evaluation" if steps else ""}')
  best = checkpoints.best.ranked(scores)
  step = best[0] if which == "best" else steps[-1]
  try:
    return read_checkpoint(source / FOLDER / f"{PREFIX}_{step}"), f"{source}, step {step}"
  except (OSError, ValueError, KeyError) as error:
    reason = str(error).splitlines()[0][:150]
    raise UserError(f'config.train.init_from = "{source}": step {step} cannot be read ({reason})') from error


def read_checkpoint(folder: pathlib.Path) -> Flat:
  """Parameters and other collections of one checkpoint, whatever devices it was saved on."""
  held = read_about(folder)["arrays"]
  params = "average/" if any(name.startswith("average/") for name in held) else "params/"
  wanted = {
    name: jax.ShapeDtypeStruct(tuple(shape), dtype)
    for name, (dtype, shape) in held.items()
    if name.startswith((params, "mutable/"))
  }
  tree = unflatten_dict(wanted, sep="/")
  as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
  with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
    args = ocp.args.PyTreeRestore(item=tree, restore_args=as_numpy, partial_restore=True)
    found = flatten_dict(reader.restore((folder / "state").absolute(), args=args), sep="/")
  return {
    k.replace(params, "params/", 1) if k.startswith(params) else k.removeprefix("mutable/"): v for k, v in found.items()
  }


def transfer(found: Flat, fresh: Mapping[str, Any], may_be_new: Sequence[str], source: str) -> tuple[Flat, Transfer]:
  """Takes every array to the place of the same name.

  Tables of positions (a parameter or its module is named after them) that differ in length only are resized linearly,
  as `layers/attention/positions.py` does.

  Args:
    found: what there is. fresh: path -> array or shape of the network that is to start.
    may_be_new: prefixes below the collection, such as "head", of what need not fit: such places stay as initialised,
      such arrays are left out.

  Returns:
    What is to be put into the network, and what became of everything.

  Raises:
    UserError: something outside of `may_be_new` does not fit; nothing would be loaded then.
  """
  said, taken, wrong = Transfer(source), {}, []
  for name in [*fresh, *(name for name in found if name not in fresh)]:
    there, here = (tuple(np.shape(side[name])) if name in side else None for side in (found, fresh))
    free = any(f"{name.partition('/')[2]}/".startswith(f"{prefix.strip('/')}/") for prefix in may_be_new)
    if there == here:
      taken[name] = found[name]
      said.loaded.append(name)
    elif there and here and is_positions(name) and len(there) == len(here) and there[-1] == here[-1]:
      taken[name] = resized(found[name], here)
      said.resized.append(f"{name} {_shape(there)} to {_shape(here)}")
    elif not free:
      wrong.append(f"{name} is {_shape(there)} there, {_shape(here)} here")
    else:
      if there is not None:
        said.skipped.append(f"{name} {_shape(there)}")
      if here is not None:
        said.new.append(f"{name} {_shape(here)}")
  if wrong:
    raise UserError(
      f"config.train.init_from: {source} does not fit this network: {some(wrong, 3)}; give the config that it was "
      "trained with, or name in config.train.init_allow_new what may start anew"
    )
  return taken, said


def place(taken: Flat, target: Mapping[str, Any]) -> dict[str, Any]:
  """`target` (path -> array) with what was taken in its place, on the devices and in the dtype that it had there."""
  return {k: on_devices(taken[k], v) if k in taken else v for k, v in target.items()}


def on_devices(value: np.ndarray, like: jax.Array) -> jax.Array:
  """A host array as a global one, laid out as another is."""
  value = np.asarray(value, like.dtype)
  return jax.make_array_from_callback(value.shape, like.sharding, lambda index: value[index])


def is_positions(name: str) -> bool:
  return any("position" in part or part.startswith("rel_pos") for part in name.split("/"))


def resized(table: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  """A table (*grid D) on another grid with as many axes; as in `interpolate_positions`."""
  return np.asarray(jax.image.resize(table.astype(np.float32), shape, "linear", antialias=False))


def some(names: Sequence[str], shown: int) -> str:
  return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def _shape(shape: tuple[int, ...] | None) -> str:
  return "missing" if shape is None else "x".join(map(str, shape)) or "a number"
