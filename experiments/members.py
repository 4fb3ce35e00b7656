"""Trials that fit into one population: which values may differ between them, and the program that trains them.

seeds, values = together(experiments)         # or a UserError that names what does not fit
population = population_of(mesh, experiments)
steps = population.steps(values)              # what `train` takes; state = steps.init(seeds)
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh

from experiments.assemble import Experiment
from vu_jax.config import digest, flat
from vu_jax.errors import UserError
from vu_jax.train.optim import optimizer
from vu_jax.train.population import Lowering, Over, Population, Trial, Values, compile_population

SEED = "seed"
# Numbers that are arguments of the compiled program. Members share all other values, that is, program and batches.
MAY_VARY = (
  *("optim.lr_peak", "optim.warmup_steps", "optim.warmup_from_frac", "optim.lr_end_frac", "optim.weight_decay"),
  *("optim.momentum", "optim.b1", "optim.b2", "optim.eps", "optim.clip_norm"),
  *("model.dropout", "model.drop_path", "task.dropout", "task.label_smoothing"),
  *("augment.mixup_alpha", "augment.cutmix_alpha", "augment.mix_frac", "train.ema_decay"),
)
# What is off is not in the program, and has no arrays in the state.
SWITCHES = ("train.ema_decay",)
# A number that does what 0 does when it stands for "off".
OFF = {"optim.clip_norm": np.inf}


def program(experiment: Experiment) -> str:
  """Equal for trials that may be members of one population."""
  return digest(_shared(experiment))


def together(experiments: Sequence[Experiment]) -> tuple[list[int], dict[str, np.ndarray]]:
  """The seeds of these members, and the values in which they differ, by their dotted keys: (P,) each.

  The seed is that of the parameters, and of all that is drawn on the device. Batches come to all of them alike.

  Raises:
    UserError: they differ in something that may not vary.
  """
  shared = [_shared(e) for e in experiments]
  for other in shared[1:]:
    for key, value in shared[0].items():
      if other.get(key, value) != value or key not in other:
        raise UserError(f"config.{key}: {_why(key, value, other.get(key))}; what may: {', '.join((SEED, *MAY_VARY))}")
  rows = [flat(e.resolved()) for e in experiments]
  vary = [key for key in MAY_VARY if key in rows[0] and any(row[key] != rows[0][key] for row in rows)]
  return [e.seed for e in experiments], {key: values_of(key, [row[key] for row in rows]) for key in vary}


def values_of(key: str, numbers: Sequence[float]) -> np.ndarray:
  """(P,) float32, or int32 for whole numbers of steps."""
  kind = np.int32 if key.endswith("_steps") else np.float32
  return np.array([number or OFF.get(key, number) for number in numbers], kind)


def with_values(experiment: Experiment, values: Values) -> Experiment:
  """The experiment with other numbers, which may be traced, at these dotted keys; nothing is checked again."""
  for key, value in values.items():
    section, _, field = key.partition(".")
    part = getattr(experiment, section)
    replaced = (
      part.clone(**{field: value}) if isinstance(part, nn.Module) else dataclasses.replace(part, **{field: value})
    )
    experiment = dataclasses.replace(experiment, **{section: replaced})
  return experiment


def trial(experiment: Experiment) -> Trial:
  """What a member is trained with."""
  tx = optimizer(experiment.optim, experiment.train.steps)
  return Trial(experiment.net(), experiment.task, tx, experiment.alter(), experiment.train.ema_decay)


def population_of(
  mesh: Mesh, experiments: Sequence[Experiment], lowering: Lowering | None = None, over: Over | None = None
) -> Population:
  """The program of these members; nothing is compiled yet.

  Args:
    mesh, lowering, over: see `compile_population`.
    experiments: of one `program`, with tasks sized by the dataset's labels.

  Raises:
    UserError: as `together`; or the model or the task asks what a value is while it is built.
  """
  _, values = together(experiments)
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
  except (jax.errors.ConcretizationTypeError, jax.errors.TracerBoolConversionError) as error:
    raise UserError(
      f"model {base.names['model']} or task {base.names['task']} decides by a value what is computed, so that not all "
      f"of these may vary in one population: {', '.join(values)}"
    ) from error
  return population


def _shared(experiment: Experiment) -> dict[str, Any]:
  """What members have in common: every value but those that may vary, and which of these are off."""
  values = flat(experiment.resolved())
  off = {key: values[key] > 0 for key in SWITCHES}
  return {k: v for k, v in values.items() if k not in (SEED, *MAY_VARY)} | off


def _why(key: str, one: Any, other: Any) -> str:
  if key in SWITCHES:
    return "0 for some members and above 0 for others, which are different programs"
  return f"{one!r} and {other!r}, but members of a population may not differ in it"
