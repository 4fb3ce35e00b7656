"""The trials of a sweep in Optuna's storage: asked for under a lock, told once. Imports Optuna.

A trial is in one of four places, and a kill at any moment leaves it in one of them:

1. asked for, in no group: its remaining values are suggested again, then it is grouped
2. in a group (`sweep_groups.py`): whoever takes the group continues its training, exactly
3. told, its group still there: told trials stay as they are
4. told, its group gone
"""

import contextlib
import json
import math
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from experiments.groups.members import grouped
from experiments.groups.record import Outcome
from experiments.running.assemble import Experiment
from experiments.sweeps.groups import Group, Groups
from experiments.sweeps.identity import FILE, check_directory, identity
from experiments.sweeps.plan import Plan, planned
from experiments.sweeps.search import importances, pruner, quiet, read_back, sampler, stored, suggest
from vu_jax.disk import write_text
from vu_jax.errors import UserError
from vu_jax.search import Values, grid

DATABASE = "study.db"
REASON, SECONDS = "reason", "seconds"  # attributes of a trial


# To look at a trial that has its values through another sampler might draw others.
_NONE = optuna.samplers.RandomSampler()


class StorageError(UserError):
  """The storage does not answer; no fault of a trial."""


@dataclass(frozen=True)
class Asked:
  """A trial that is to be trained; `experiment` is None if its values do not go together, for the `reason`."""

  number: int
  values: Values
  experiment: Experiment | None
  reason: str = ""


class Study:
  """A sweep's trials; one object per process and directory."""

  def __init__(self, plan: Plan):
    """Opens or begins the sweep in `plan.directory`.

    Raises:
      UserError: that is another sweep, or the storage cannot be had.
    """
    self.plan, self.groups = plan, Groups(plan.directory)
    with self.groups.alone(), _answers(plan):
      storage = optuna.storages.RDBStorage(
        plan.storage or f"sqlite:///{plan.directory / DATABASE}",
        engine_kwargs={} if plan.storage else {"connect_args": {"timeout": 120}},
      )
      name = check_directory(plan) or _begun(plan, storage)
      self._study = optuna.load_study(study_name=name, storage=storage, sampler=_NONE, pruner=pruner(plan))
    self._importance: tuple[int, dict[str, float]] = (0, {})

  def trials(self) -> list[FrozenTrial]:
    """All that were asked for, by number."""
    with _answers(self.plan):
      return [t for t in self._study.get_trials(deepcopy=False) if t.state is not TrialState.WAITING]

  def take(self) -> Group | None:
    """A group to train, which is this process's now; None = nothing is left for it. First come groups of the dead."""
    with self.groups.alone():
      while True:
        for group in self.groups.all():
          if self.groups.take(group):
            if fresh := self.groups.fresh(group):
              return fresh
            self.groups.release(group)
        with _answers(self.plan):
          if not self._ask():
            return None

  def _ask(self) -> int:
    """Asks for trials and puts them into groups; how many."""
    attended = {number for group in self.groups.all() for number in group.trials}
    trials = self.trials()
    orphans = [t for t in trials if t.state is TrialState.RUNNING and t.number not in attended]
    asked = ask(self._study, self.plan, orphans)
    for each in asked:
      if each.experiment is None:
        self.tell(each.number, Outcome("failed", {}, 0, each.reason), 0.0)
    for group in groups_of(asked, self.plan.batch):
      self.groups.write(group)
    return len(asked)

  def experiments(self, group: Group) -> list[Experiment]:
    """Of its trials."""
    trials = {t.number: t for t in self.trials()}
    return [self.plan.experiment(read_back(trials[number].params, self.plan)) for number in group.trials]

  def report(
    self, group: Group, step: int, scores: Mapping[int, Mapping[str, float]], steps: int, seconds: float
  ) -> set[int]:
    """Notes an evaluation of members of a group, by their places, and says which of them end here.

    May be told the same again: a trial that has ended stays ended. At the last step none is ended.
    """
    with _answers(self.plan):
      trials = self._study.get_trials(deepcopy=False)
      own = {place: trials[group.trials[place]] for place in scores}
      for place, trial in own.items():
        if trial.state is TrialState.RUNNING and step not in trial.intermediate_values:
          self._handle(trial).report(scores[place][self.plan.objective.name], step)
      return {place for place, trial in own.items() if self._ends(trial, step, steps, seconds)}

  def _ends(self, trial: FrozenTrial, step: int, steps: int, seconds: float) -> bool:
    if trial.state.is_finished():
      return True
    if step >= steps or not self._handle(trial).should_prune():
      return False
    self.tell(trial.number, Outcome("pruned", {}, step), seconds)
    return True

  def tell(self, number: int, outcome: Outcome, seconds: float) -> None:
    """Ends a trial; one that has ended stays as it is. `seconds` are those since its group began."""
    value, reason = outcome.scores.get(self.plan.objective.name, math.nan), outcome.reason
    if outcome.state == "complete" and not math.isfinite(value):
      reason = f"its {self.plan.objective.name} is {value}"
    failed = outcome.state == "failed" or (outcome.state == "complete" and bool(reason))
    with _answers(self.plan):
      trial = self._trial(number)
      if trial.state.is_finished():
        return
      handle = self._handle(trial)
      handle.set_user_attr(SECONDS, round(seconds, 1))
      if failed:
        handle.set_user_attr(REASON, reason)
      state = TrialState.FAIL if failed else TrialState.PRUNED if outcome.state == "pruned" else TrialState.COMPLETE
      self._study.tell(number, value if state is TrialState.COMPLETE else None, state, skip_if_finished=True)

  def finish(self, group: Group, outcomes: Sequence[Outcome]) -> None:
    """Tells all trials of a group, which is done then."""
    for number, outcome in zip(group.trials, outcomes, strict=True):
      self.tell(number, outcome, group.seconds)
    self.groups.remove(group)

  def is_told(self, group: Group) -> bool:
    return all(t.state.is_finished() for t in self.trials() if t.number in group.trials)

  def importance(self) -> dict[str, float]:
    """Of the parameters, computed anew when more trials are complete."""
    count = sum(t.state is TrialState.COMPLETE for t in self.trials())
    if count != self._importance[0]:
      self._importance = (count, importances(self._study))
    return self._importance[1]

  def _trial(self, number: int) -> FrozenTrial:
    return self._study.get_trials(deepcopy=False)[number]

  def _handle(self, trial: FrozenTrial) -> optuna.Trial:
    return optuna.Trial(self._study, trial._trial_id)


def ask(study: optuna.Study, plan: Plan, orphans: Sequence[FrozenTrial]) -> list[Asked]:
  """The next trials, at most `plan.batch`: those that were asked for but never grouped, then new ones."""
  trials = study.get_trials(deepcopy=False)
  handles, found = [optuna.Trial(study, t._trial_id) for t in orphans[: plan.batch]], []
  count = sum(t.state is not TrialState.WAITING for t in trials)
  new = max(min(plan.batch - len(handles), planned(plan) - count), 0)
  points = grid(plan.space) if plan.sampler == "grid" else []
  with quiet():
    study.sampler = sampler(plan, count)
    try:
      for i in range(len(handles) + new):
        found.append(_asked(handles[i] if i < len(handles) else _next(study, points, plan), plan))
    finally:
      study.sampler = _NONE
  return found


def _next(study: optuna.Study, points: Sequence[Values], plan: Plan) -> optuna.Trial:
  trials = study.get_trials(deepcopy=False)
  if points and not any(t.state is TrialState.WAITING for t in trials):  # one may wait since a kill
    study.enqueue_trial(stored(points[len(trials)], plan))
  return study.ask()


def _asked(handle: optuna.Trial, plan: Plan) -> Asked:
  values = suggest(handle, plan)
  try:
    return Asked(handle.number, values, plan.experiment(values))
  except UserError as error:
    return Asked(handle.number, values, None, " ".join(str(error).split()))


def groups_of(asked: Sequence[Asked], size: int) -> list[Group]:
  """Those that share a program, at most so many at once."""
  good = [(each.number, each.experiment) for each in asked if each.experiment is not None]
  return [Group(tuple(good[i][0] for i in places)) for places in grouped([e for _, e in good], size)]


def _begun(plan: Plan, storage: Any) -> str:
  """Begins a study, under a name that other sweeps in the same storage do not have; then says so in the directory."""
  name = f"{plan.name}-{uuid.uuid4().hex[:8]}"
  optuna.create_study(study_name=name, storage=storage, direction=plan.objective.direction)
  write_text(plan.directory / FILE, json.dumps({"study": name, **identity(plan)}, indent=1))
  return name


@contextlib.contextmanager
def _answers(plan: Plan) -> Iterator[None]:
  """What the storage says when it cannot be used has many types and lines."""
  try:
    with quiet():
      yield
  except KeyError:
    raise StorageError(
      f"the study of {plan.directory} is not in this storage: give the --storage that it began with"
    ) from None
  except (SQLAlchemyError, optuna.exceptions.StorageInternalError, ImportError) as error:
    reason = (str(error.__cause__ or error).strip().splitlines() or [type(error).__name__])[0]
    raise StorageError(f"the storage of the sweep does not work: {reason}") from error


def draw(plan: Plan) -> tuple[list[Asked], list[Group]]:
  """What a sweep like this one would begin with, in memory."""
  with quiet():
    asked = ask(optuna.create_study(direction=plan.objective.direction), plan, ())
  return asked, groups_of(asked, plan.batch)
