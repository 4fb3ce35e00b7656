"""Optuna's samplers and pruners for a sweep. Imports Optuna."""

import contextlib
import math
import warnings
from collections.abc import Iterator

import optuna

from experiments.sweeps.plan import Objective, Plan
from vu_jax.config import text_of
from vu_jax.errors import UserError
from vu_jax.search import Parameter, Values, is_active

_REDUCTION = 3  # of trials, from rung to rung
_RANDOM = 10  # trials before a sampler learns from them


@contextlib.contextmanager
def quiet() -> Iterator[None]:
  """Without Optuna's notes on every trial, and on what it calls experimental."""
  optuna.logging.set_verbosity(optuna.logging.ERROR)
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    yield


def sampler(plan: Plan, asked: int) -> optuna.samplers.BaseSampler:
  """For the next trials, when so many have been asked for: the seed is not used twice by processes that follow.

  Half of the trials, at most ten, are random.

  Raises:
    UserError: CMA-ES has nothing to work on.
  """
  seed = (plan.resolved["seed"] * 1_000_003 + asked) % 2**32
  random = max(min(_RANDOM, plan.trials // 2), 1)
  if plan.sampler == "tpe":
    return optuna.samplers.TPESampler(n_startup_trials=random, constant_liar=True, seed=seed)
  if plan.sampler == "cmaes":
    if all(parameter.kind == "choice" for parameter in plan.space.values()):
      raise UserError("--sampler=cmaes: varies numbers, and there are only choices here; take tpe, random or grid")
    try:
      import cmaes  # noqa: F401
    except ImportError:
      raise UserError("--sampler=cmaes needs cmaes: pip install -e '.[sweep]'") from None
    return optuna.samplers.CmaEsSampler(n_startup_trials=random, warn_independent_sampling=False, seed=seed)
  return optuna.samplers.RandomSampler(seed=seed)  # a grid is not sampled


def pruner(plan: Plan) -> optuna.pruners.BasePruner:
  """Which trials end early, judged at evaluations."""
  if plan.pruner == "halving":
    return Halving(plan.resolved["train"]["eval_every_steps"], plan.objective)
  if plan.pruner == "median":
    return optuna.pruners.MedianPruner(n_startup_trials=4)
  return optuna.pruners.NopPruner()


class Halving(optuna.pruners.BasePruner):
  """Successive halving: at the evaluations 1, 3, 9, ... the best third of all that came so far goes on.

  Source: Li et al. 2020, A System for Massively Parallel Hyperparameter Tuning (ASHA), algorithm 2.

  Differs from Optuna's `SuccessiveHalvingPruner`, which compares a trial with those that were asked about before it.
  The members of a population arrive together, so all of their figures are there before one is judged, and the outcome
  does not depend on their order. It remembers nothing, so that it may be asked again after a kill.
  """

  def __init__(self, first_step: int, objective: Objective):
    self._first, self._objective = first_step, objective

  def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
    step = trial.last_step
    if step is None or not self._is_rung(step):
      return False
    own = trial.intermediate_values[step]
    if math.isnan(own):
      return True
    others = [t.intermediate_values.get(step) for t in study.get_trials(deepcopy=False) if t.number != trial.number]
    found = [value for value in others if value is not None]
    better = sum(self._objective.better(value, own) for value in found)
    return better >= math.ceil((len(found) + 1) / _REDUCTION)

  def _is_rung(self, step: int) -> bool:
    rung = self._first
    while rung < step:
      rung *= _REDUCTION
    return rung == step


def suggest(trial: optuna.Trial, plan: Plan) -> Values:
  """The values of a trial; those that it has already stay."""
  values: Values = {}
  for key, parameter in plan.space.items():
    if not is_active(parameter, values):
      continue
    low, high = parameter.low, parameter.high
    if parameter.kind == "choice":
      text = trial.suggest_categorical(key, [text_of(value) for value in parameter.choices])
      values[key] = _chosen(parameter, str(text))
    elif parameter.kind == "integers":
      values[key] = trial.suggest_int(key, int(low), int(high))
    else:
      values[key] = trial.suggest_float(key, low, high, log=parameter.kind == "log_uniform")
  return values


def stored(values: Values, plan: Plan) -> dict[str, object]:
  """As Optuna keeps them: of choices the text, since it knows no tuples."""
  return {k: text_of(v) if plan.space[k].kind == "choice" else v for k, v in values.items()}


def read_back(params: dict[str, object], plan: Plan) -> Values:
  """The inverse of `stored`, in the order of the space."""
  return {
    key: _chosen(parameter, str(params[key])) if parameter.kind == "choice" else params[key]
    for key, parameter in plan.space.items()
    if key in params
  }


def _chosen(parameter: Parameter, text: str) -> object:
  return next(value for value in parameter.choices if text_of(value) == text)


def importances(study: optuna.Study) -> dict[str, float]:
  """The share of each parameter in being among the best trials (PED-ANOVA); {} while too few are complete."""
  evaluator = optuna.importance.PedAnovaImportanceEvaluator()
  try:
    with quiet(), warnings.catch_warnings():
      warnings.simplefilter("ignore")
      found = optuna.importance.get_param_importances(study, evaluator=evaluator)
  except (ValueError, RuntimeError, ArithmeticError, IndexError, ImportError):
    return {}
  return {key: float(share) for key, share in found.items() if math.isfinite(share)}
