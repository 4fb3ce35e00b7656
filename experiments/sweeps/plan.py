"""What a sweep is: a config, the values to try, what counts, and where it all lies."""

import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import jax
import numpy as np

from experiments.groups.members import ORDER_SEED
from experiments.running.assemble import Experiment, assemble, launch_command
from vu_jax.config import load, text_of
from vu_jax.data.prepare import default_data_dir
from vu_jax.errors import UserError
from vu_jax.search import Space, Values, examples, extremes, grid

Sampler: TypeAlias = Literal["tpe", "random", "grid", "cmaes"]
Pruner: TypeAlias = Literal["none", "halving", "median"]


@dataclass(frozen=True)
class Objective:
  """The figure by which trials are judged: that of a split, at the last evaluation."""

  name: str
  direction: Literal["maximize", "minimize"]
  split: str

  def better(self, one: float, other: float) -> bool:
    return one > other if self.direction == "maximize" else one < other


@dataclass(frozen=True)
class Plan:
  """A sweep; picklable, so that workers can be handed it.

  Fields:
    config, overrides: of the config that all trials have in common, as typed. resolved: the same with every value.
    trials: in all, finished ones included. batch: members of a population.
    storage: of Optuna, an URL; "" = a file in the directory.
  """

  config: str
  overrides: Mapping[str, str]
  resolved: Mapping[str, Any]
  space: Space
  objective: Objective
  trials: int
  batch: int
  sampler: Sampler
  pruner: Pruner
  directory: pathlib.Path
  data_dir: pathlib.Path
  storage: str = ""

  @property
  def name(self) -> str:
    return self.directory.resolve().name

  def workdir(self, number: int) -> pathlib.Path:
    """The run directory of a trial."""
    return self.directory / "trials" / f"{number:04d}"

  def all_overrides(self, values: Values) -> dict[str, str]:
    """Those that make the config of a trial. Trials with other seeds see the same batches, unless the config says."""
    texts = {**self.overrides, **{key: text_of(value) for key, value in values.items()}}
    if "seed" in self.space and ORDER_SEED not in texts and self.resolved["loader"]["order_seed"] < 0:
      texts[ORDER_SEED] = str(self.resolved["seed"])
    return texts

  def experiment(self, values: Values) -> Experiment:
    """Raises UserError if these values do not go together."""
    return assemble(load(self.config, self.all_overrides(values)))

  def command(self, number: int, values: Values) -> str:
    """What runs a trial again, alone, into a directory of its own."""
    elsewhere = [f"--data_dir={self.data_dir}"] if self.data_dir != default_data_dir() else []
    return launch_command(self.config, self.all_overrides(values), f"runs/{self.name}_{number:04d}", *elsewhere)


def planned(plan: Plan) -> int:
  """Trials in all; a grid has so many and no more."""
  return min(plan.trials, len(grid(plan.space))) if plan.sampler == "grid" else plan.trials


def objective_of(experiment: Experiment) -> Objective:
  """As the config says, see `train.best_metric`; nothing is computed.

  Raises:
    UserError: the evaluation has no such figure.
  """
  best, batch = experiment.train.best, experiment.batch_shapes()

  def sums(batch: Any) -> Any:
    net = experiment.net()
    variables = net.init(jax.random.key(0), batch, train=False)
    return experiment.task.sums(net.apply(variables, batch, train=False), batch)

  ones = jax.tree.map(lambda s: np.ones(s.shape, s.dtype), jax.eval_shape(sums, batch))
  name = best.name(experiment.task.summary(ones))
  direction: Literal["maximize", "minimize"] = "maximize" if best.value({name: 1.0}) > 0 else "minimize"
  return Objective(name, direction, experiment.train.eval_split)


def check_space(plan: Plan) -> None:
  """Builds the config with every value of a choice and both ends of every range.

  Raises:
    UserError: a key does not exist or cannot have such a value, neither alone nor with others of the space; or it is
      given beside --vary, too.
  """
  for key, parameter in plan.space.items():
    if key in plan.overrides:
      raise UserError(f"--config.{key}={plan.overrides[key]}: {key} is varied; leave one of them out")
    for value in extremes(parameter):
      _check_value(plan, [*examples(plan.space, key, value)])


def _check_value(plan: Plan, trials: list[Values]) -> None:
  errors = []
  for values in trials:
    try:
      plan.experiment(values)
    except UserError as error:
      errors.append(error)
    else:
      return
  raise errors[0]
