"""A worker takes a group of trials, trains it, tells how it went, and takes the next one. Imports Optuna."""

import contextlib
import dataclasses
import time
import traceback
from collections.abc import Iterator, Mapping

from rich.console import Console

from experiments.groups.members import MAY_VARY
from experiments.groups.record import Outcome
from experiments.groups.train import Member, train_group
from experiments.sweeps.groups import Group
from experiments.sweeps.plan import Plan
from experiments.sweeps.record import write_record
from experiments.sweeps.study import StorageError, Study
from vu_jax.errors import UserError
from vu_jax.train.signals import Interrupted, StopSignals

_ALL_FAILED = 3  # groups of a worker, from its first one on, that raise errors: then it is not the trials' fault


def work(plan: Plan) -> None:
  """Trains groups until nothing is left for this worker.

  Raises:
    Interrupted: asked to stop; all is saved.
    UserError: the storage does not work, or its first groups could not be trained at all.
  """
  study, errors, fine = Study(plan), 0, False
  with StopSignals() as stop:
    while group := study.take():
      _raise_if_asked(stop)
      write_record(study)
      error = _run(study, group)
      write_record(study)
      fine, errors = fine or not error, errors + bool(error)
      if not fine and errors == _ALL_FAILED:
        raise UserError(
          f"the first {errors} groups could not be trained: {error}; mend that, and the same command goes on"
        )
    _raise_if_asked(stop)
  write_record(study)


def _raise_if_asked(stop: StopSignals) -> None:
  if stop.name:
    raise Interrupted("the end of a group, all saved")


def _run(study: Study, group: Group) -> str:
  """Trains a group, or goes on with it, and tells all of its trials; returns why none could be trained, or ""."""
  if study.is_told(group):
    study.groups.remove(group)
    return ""
  clock = _Clock(group.seconds)
  latest = [group]
  try:
    outcomes = _train(study, latest, clock)
  except Interrupted:
    study.groups.write(dataclasses.replace(latest[0], seconds=clock()))
    raise
  except (StorageError, OSError):
    raise
  except Exception as error:  # whatever it is, other trials may be fine
    return _fail(study, latest[0], _reason(error, group), clock())
  study.finish(dataclasses.replace(latest[0], seconds=clock()), outcomes)
  return ""


def _train(study: Study, latest: list[Group], clock: "_Clock") -> list[Outcome]:
  """Calls `train_group`; `latest` holds the group, which changes on the way."""
  plan, group = study.plan, latest[0]
  experiments = study.experiments(group)
  members = [Member(e, plan.workdir(n)) for e, n in zip(experiments, group.trials, strict=True)]
  steps = experiments[0].train.steps

  def on_scores(step: int, scores: Mapping[int, Mapping[str, float]]) -> set[int]:
    ended = study.report(group, step, scores, steps, clock())
    latest[0] = dataclasses.replace(latest[0], step=step, seconds=clock())
    study.groups.write(latest[0])
    write_record(study)
    return ended

  with _log(plan, group) as screen:
    return train_group(
      members,
      study.groups.folder(group),
      plan.data_dir,
      screen,
      on_scores,
      [key for key in plan.space if key in MAY_VARY],
      plan.objective.split,
    )


@contextlib.contextmanager
def _log(plan: Plan, group: Group) -> Iterator[Console]:
  """Where a group says what it does."""
  folder = plan.directory / "logs"
  folder.mkdir(exist_ok=True)
  with (folder / f"{group.number:04d}.log").open("a") as file:
    try:
      yield Console(file=file, width=160, highlight=False)
    except Exception:
      file.write(traceback.format_exc())
      raise


def _fail(study: Study, group: Group, reason: str, seconds: float = 0.0) -> str:
  """Tells those that have not ended as failed; returns the reason."""
  failed = Outcome("failed", {}, group.step, reason)
  study.finish(dataclasses.replace(group, seconds=seconds or group.seconds), [failed] * len(group.trials))
  return reason


def _reason(error: Exception, group: Group) -> str:
  """One line."""
  first = (str(error).strip().splitlines() or [""])[0]
  if isinstance(error, UserError):
    return " ".join(str(error).split())
  if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in first:
    return f"does not fit into memory with {len(group.trials)} members: {first}"
  return f"{type(error).__name__}: {first}"[:500]


class _Clock:
  """Seconds of a group, those of earlier workers included."""

  def __init__(self, before: float):
    self._before, self._start = before, time.monotonic()

  def __call__(self) -> float:
    return round(self._before + time.monotonic() - self._start, 1)
