"""Trials that fit into one population: which values may differ between them, and the program that trains them.

seeds, values = together(experiments)          # or a UserError that names what does not fit
population = population_of(mesh, experiments)
steps = population.steps(values)               # state = steps.init(seeds); steps.train(state, batch)

For several groups of one `program`, one population serves: the keys of the search space go into `vary` of both.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh

from experiments.running.assemble import Experiment
from vu_jax.config import diff, digest, flat
from vu_jax.errors import UserError
from vu_jax.glossary import Count
from vu_jax.train.optim import optimizer
from vu_jax.train.population import Lowering, Over, Population, Trial, Values, compile_population

SEED, ORDER_SEED = "seed", "loader.order_seed"
# Numbers that are arguments of the compiled program. Members share all other values, that is, program and batches.
MAY_VARY = (
  *("optim.lr_peak", "optim.warmup_steps", "optim.warmup_from_frac", "optim.lr_end_frac", "optim.weight_decay"),
  *("optim.momentum", "optim.b1", "optim.b2", "optim.eps", "optim.clip_norm"),
  *("model.dropout", "model.drop_path", "task.dropout", "task.label_smoothing"),
  *("augment.mixup_alpha", "augment.cutmix_alpha", "augment.mix_frac", "train.ema_decay"),
)
_ALL = ", ".join((SEED, *MAY_VARY))
# What is off is not in the program, and has no arrays in the state.
SWITCHES = ("train.ema_decay",)
# A number that does what 0 does when it stands for "off".
OFF = {"optim.clip_norm": np.inf}


def program(experiment: Experiment) -> str:
  """Equal for trials that may be members of one population."""
  return digest(_shared(experiment))


def grouped(experiments: Sequence[Experiment], size: Count) -> list[list[int]]:
  """Which of these are members of one population, each of at most `size`: indices, in the order of their first one."""
  found: dict[str, list[int]] = {}
  for i, experiment in enumerate(experiments):
    found.setdefault(program(experiment), []).append(i)
  return [same[start : start + size] for same in found.values() for start in range(0, len(same), size)]


def together(experiments: Sequence[Experiment], vary: Sequence[str] = ()) -> tuple[list[int], dict[str, np.ndarray]]:
  """The seeds of these members, and the values in which they differ, by their dotted keys: (P,) each.

  The seed is that of the parameters, and of all that is drawn on the device. `vary` are keys whose values are given
  even where these members agree.

  Raises:
    UserError: they differ in something that may not vary, or `vary` holds such a key.
  """
  for key in {*vary} - {SEED, *MAY_VARY}:
    raise UserError(f"config.{key}: may not differ between members of a population; what may: {_ALL}")
  shared = [_shared(e) for e in experiments]
  for key, (one, other) in next(filter(None, (diff(shared[0], each) for each in shared)), {}).items():
    raise UserError(f"config.{key}: {_why(key, one, other)}; what may: {_ALL}")
  rows = [flat(e.resolved()) for e in experiments]
  differ = [key for key in MAY_VARY if key in rows[0] and (key in vary or any(r[key] != rows[0][key] for r in rows))]
  return [e.seed for e in experiments], {key: values_of(key, [row[key] for row in rows]) for key in differ}


def values_of(key: str, numbers: Sequence[float]) -> np.ndarray:
  """(P,) float32, or int32 for whole numbers of steps."""
  kind = np.int32 if key.endswith("_steps") else np.float32
  return np.array([number or OFF.get(key, number) for number in numbers], kind)


def with_values(experiment: Experiment, values: Values) -> Experiment:
  """The experiment with other numbers, which may be traced, at these dotted keys; nothing is checked again."""
  for key, value in values.items():
    section, _, field = key.partition(".")
    part = getattr(experiment, section)
    given: dict[str, Any] = {field: value}
    replaced = part.clone(**given) if isinstance(part, nn.Module) else dataclasses.replace(part, **given)
    parts: dict[str, Any] = {section: replaced}
    experiment = dataclasses.replace(experiment, **parts)
  return experiment


def trial(experiment: Experiment) -> Trial:
  """What a member is trained with."""
  tx = optimizer(experiment.optim, experiment.train.steps)
  return Trial(experiment.net(), experiment.task, tx, experiment.alter(), experiment.train.ema_decay)


def population_of(
  mesh: Mesh,
  experiments: Sequence[Experiment],
  vary: Sequence[str] = (),
  lowering: Lowering | None = None,
  over: Over | None = None,
) -> Population:
  """The program of these members; nothing is compiled yet.

  Args:
    mesh, lowering, over: see `compile_population`.
    experiments: of one `program`, with tasks sized by the dataset's labels.
    vary: see `together`.

  Raises:
    UserError: as `together`; or the model or the task asks what a value is while it is built.
  """
  _, values = together(experiments, vary)
  base = experiments[0]
  batch = base.batch_shapes()
  population = compile_population(
    mesh,
    lambda values: trial(with_values(base, values)),
    values,
    len(experiments),
    batch,
    base.train.accumulate,
    base.train.max_skipped_steps,
    base.mesh.shard_min_size,
    lowering,
    over,
  )
  try:
    jax.eval_shape(population.train, values, population.shapes, batch)
  except jax.errors.ConcretizationTypeError as error:
    raise UserError(
      f"model {base.names['model']} or task {base.names['task']} decides by a value what is computed, so that not all "
      f"of these may vary in one population: {', '.join(values)}"
    ) from error
  return population


def _shared(experiment: Experiment) -> dict[str, Any]:
  """What members have in common: every value but those that may vary, and which of these are off."""
  values = flat(experiment.resolved())
  switches = {key: values[key] > 0 for key in SWITCHES}
  shared = {key: value for key, value in values.items() if key not in (SEED, *MAY_VARY)}
  return shared | switches | {ORDER_SEED: experiment.order_seed}


def _why(key: str, one: Any, other: Any) -> str:
  if key in SWITCHES:
    return "0 for some members and above 0 for others, which are different programs"
  if key == ORDER_SEED:
    return f"set it, such as to {one}, as members of a population see the same batches"
  return f"{one!r} and {other!r}, but members of a population may not differ in it"
