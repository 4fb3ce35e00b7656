"""How a run starts or goes on: its checkpoints, and the state that it begins with."""

import json
import pathlib
from typing import Any

import jax
from flax.traverse_util import flatten_dict, unflatten_dict
from rich.console import Console

from experiments.running.assemble import Experiment
from experiments.running.outcome import provenance
from vu_jax.checkpoint.saving import Checkpoints
from vu_jax.checkpoint.transfer import Transfer, place, read_variables, transfer
from vu_jax.disk import write_text
from vu_jax.train.loop import Train
from vu_jax.train.mesh import Mesh
from vu_jax.train.population import member, stacked
from vu_jax.train.step import Steps, TrainState

REPORT = "init_from.json"


def open_checkpoints(
  experiment: Experiment,
  workdir: pathlib.Path,
  directory: pathlib.Path,
  labels: list[str],
  mesh: Mesh,
  screen: Console,
) -> Checkpoints:
  """Those of a run that trains; each says what it is of. `directory` is that of the prepared dataset."""
  resolved, options = experiment.resolved(), experiment.train
  about = {
    "config": resolved,
    "labels": labels,
    "preprocessing": {k: resolved[k] for k in ("clip", "pixels", "audio")},
    "data": {"name": experiment.names["data"], "fingerprint": directory.parent.name, "directory": str(directory)},
    "provenance": {k: v for k, v in provenance(mesh).items() if k != "finished"},
  }

  def say(text: str) -> None:
    screen.print(text, markup=False)

  return Checkpoints(workdir, options.keep, options.keep_best, options.best, about, say)


def first_state(
  experiment: Experiment, steps: Steps, checkpoints: Checkpoints, workdir: pathlib.Path, screen: Console
) -> TrainState:
  """The state before step 0: fresh, with what `train.init_from` gives; to be replaced if there are checkpoints.

  Raises:
    UserError: the source is missing or does not fit.
  """
  state, options = steps.init(experiment.seed), experiment.train
  if checkpoints.latest() is not None or not options.init_from:
    return state
  found, source = read_variables(pathlib.Path(options.init_from), options.init_step)
  state, said = filled(state, found, options.init_allow_new, source)
  _tell(source, said, screen)
  if jax.process_index() == 0:
    write_text(workdir / REPORT, json.dumps(vars(said), indent=1))
  return state


def filled(state: TrainState, found: Any, may_be_new: tuple[str, ...], source: str) -> tuple[TrainState, Transfer]:
  """A fresh state with the variables that were found; an average of parameters starts where they do."""
  fresh = flatten_dict({"params": state.params, **state.mutable}, sep="/")
  taken, said = transfer(found, fresh, may_be_new, source)
  variables = unflatten_dict(place(taken, fresh), sep="/")
  params = variables.pop("params")
  average = state.average
  if average is not None:
    flat = flatten_dict({"params": average}, sep="/")
    average = unflatten_dict(place(taken, flat), sep="/")["params"]
  return state.replace(params=params, mutable=variables, average=average), said


def fill_members(options: Train, state: TrainState, shapes: TrainState, screen: Console) -> TrainState:
  """A fresh population with what `train.init_from` gives, the same for every member; raises as `first_state`."""
  if not options.init_from:
    return state
  found, source = read_variables(pathlib.Path(options.init_from), options.init_step)
  size = state.step.shape[0]
  each = [filled(member(state, i), found, options.init_allow_new, source) for i in range(size)]
  _tell(source, each[0][1], screen)
  return jax.device_put(stacked([one for one, _ in each]), jax.tree.map(lambda s: s.sharding, shapes))


def _tell(source: str, said: Transfer, screen: Console) -> None:
  for line in [source, *said.lines()]:
    screen.print(f"{'init_from' if line == source else '':>9}  {line}", markup=False, soft_wrap=True)
