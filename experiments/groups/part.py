"""One population of a group on its way: what happens at its evaluations, and what its members leave behind."""

import contextlib
import dataclasses
import pathlib
import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from jax.sharding import Mesh
from rich.console import Console

from experiments.groups.members import population_of, together
from experiments.groups.record import Outcome, Record, should_shrink
from experiments.running.assemble import Experiment
from experiments.running.outcome import facts_of_run, final_split, write_outcome
from experiments.running.ready import make_ready
from experiments.running.score import Scored, score_members, shown
from experiments.running.start import fill_members, open_checkpoints
from experiments.running.trained import Trained, note_dataset, short_side
from vu_jax.checkpoint.saving import Checkpoints
from vu_jax.checkpoint.scores import waited
from vu_jax.checkpoint.workdir import claim_workdir
from vu_jax.data.protocol import ONE_VIEW
from vu_jax.data.quarantine import FILE as QUARANTINE
from vu_jax.data.source import PreparedSource
from vu_jax.train.log import MembersLog
from vu_jax.train.loop import train
from vu_jax.train.mesh import to_devices
from vu_jax.train.meter import DivergedError, diverged
from vu_jax.train.optim import learning_rate
from vu_jax.train.population import chosen, frozen, member
from vu_jax.train.profiling import Profile
from vu_jax.train.signals import Interrupted, StopSignals
from vu_jax.train.step import Steps

OnScores: TypeAlias = Callable[[int, Mapping[int, Mapping[str, float]]], Collection[int]]


@dataclass(frozen=True)
class Member:
  """An experiment, and its run directory."""

  experiment: Experiment
  workdir: pathlib.Path


def nobody(step: int, scores: Mapping[int, Mapping[str, float]]) -> Collection[int]:
  """Ends no member early."""
  del step, scores
  return ()


class Part:
  """Its members are numbered by their places in this population; the record has their places in the group."""

  def __init__(
    self,
    record: Record,
    members: Sequence[Member],
    data_dir: pathlib.Path,
    screen: Console,
    vary: Sequence[str],
    split: str,
    on_scores: OnScores,
  ):
    self.record, self.members, self.screen, self.split, self.on_scores = record, members, screen, split, on_scores
    self.start = time.perf_counter()
    self.ready = make_ready(members[0].experiment, record.part, data_dir, screen, partial(_steps, members, vary))
    labels = self.ready.data.label_names
    self.experiments = [m.experiment.for_classes(len(labels)) for m in members]
    self.options = self.ready.experiment.train
    for each in members:
      claim_workdir(each.workdir, each.experiment.resolved())
      note_dataset(each.workdir, self.ready.directory, self.ready.facts, labels)
    self.own = [self._checkpoints(m) for m in members]
    self.ended = {n for n, i in enumerate(record.members) if i in record.outcomes}
    if len(members) > 1:
      screen.print(f"{'members':>9}  {len(members)}, trained at once", markup=False)

  def train(self) -> None:
    """Until all members have ended, or so many that a smaller population is worth its compilation."""
    ready, options, place = self.ready, self.options, self.record.part
    place.mkdir(exist_ok=True)
    batches = ready.batches(self.record.folder / QUARANTINE)
    about = {"members": [str(m.workdir) for m in self.members]}
    checkpoints = Checkpoints(place, options.keep, 0, options.best, about, self._say)
    log = MembersLog([m.workdir for m in self.members], options.steps, self.screen, options.writers, self.ended)
    state = ready.steps.init([e.seed for e in self.experiments])
    if checkpoints.latest() is None:
      state = fill_members(options, state, ready.steps.shapes, self.screen)
    with contextlib.ExitStack() as ending, StopSignals() as stop:
      ending.callback(lambda: self.record.spend(time.perf_counter() - self.start))
      for each in (batches, log, *self.own, checkpoints):
        ending.callback(getattr(each, "close", lambda: None))
      try:
        state = train(
          dataclasses.replace(options, stop_patience=0),
          state,
          ready.train_step,
          batches,
          partial(to_devices, ready.mesh),
          partial(self.evaluate, batches, stop),
          _rates(self.experiments),
          checkpoints,
          log,
          stop,
          Profile((), place),
          self.enough,
        )
      except DivergedError as error:
        step = checkpoints.latest() or 0
        for n in self.running():
          self._end(n, Outcome("failed", self._last_scores(n), step, str(error)))
        return
      if self.running():
        self._shrink(state, batches, checkpoints)
      if stop.name:
        raise Interrupted("an evaluation, and all is saved")

  def evaluate(self, batches: Any, stop: StopSignals, state: Any) -> dict[str, np.ndarray]:
    """Figures of all members; who has diverged, is ended from outside, or has finished, leaves.

    `batches` is the data iterator where it stands, for the checkpoints.
    """
    step = int(np.max(state.step))
    trained, tasks = self._trained(state), [e.task for e in self.experiments]
    source = PreparedSource(self.ready.directory, self.options.eval_split)
    found = score_members(trained, tasks, state, source, ONE_VIEW, stop.raise_if_any)
    lost = np.asarray(frozen(state, self.options.max_skipped_steps))
    for n in self.running():
      if lost[n]:
        reason = diverged(self.options.max_skipped_steps)
        self._end(n, Outcome("failed", self._last_scores(n), int(state.step[n]), reason))
    figures = {n: found[n].summary for n in self.running()}
    for n, summary in figures.items():
      self.own[n].score(step, summary)
    by_place = {self.record.members[n]: summary for n, summary in figures.items()}
    last = step >= self.options.steps
    wanted = self.on_scores(step, by_place)
    pruned = () if last else wanted  # who is there at the end is complete
    patience = self.options.stop_patience
    done = [n for n in figures if last or (patience and waited(self.own[n].scores, self.options.best) >= patience)]
    if done:
      self._conclude(done, found, state, step, batches)
    for n in self.running():
      if self.record.members[n] in pruned:
        self._save(n, state, step, batches)
        self._end(n, Outcome("pruned", figures[n], step))
    names = next(iter(figures.values()), found[0].summary)
    return {k: np.array([figures.get(n, {}).get(k, np.nan) for n in range(len(self.members))]) for k in names}

  def enough(self) -> bool:
    """Whether the population is to end after an evaluation."""
    running = len(self.running())
    return running == 0 or should_shrink(running, len(self.members))

  def running(self) -> list[int]:
    """Places in this population of the members that have not ended."""
    return [n for n in range(len(self.members)) if n not in self.ended]

  def _conclude(self, done: Sequence[int], found: list[Scored], state: Any, step: int, batches: Any) -> None:
    """The final evaluation of these members, where that is not what was `found` just now, and what they leave."""
    ready, views = self.ready, self.ready.experiment.eval
    split = self.split or final_split(ready.facts["splits"], self.options.eval_split)
    trained, tasks = self._trained(state), [e.task for e in self.experiments]
    if (split, views) != (self.options.eval_split, ONE_VIEW):
      found = shown(
        self.screen, trained, split, views, lambda source, on: score_members(trained, tasks, state, source, views, on)
      )
    for n in done:
      self._save(n, state, step, batches)
      workdir, own = self.members[n].workdir, member(state, n)
      seconds = self.record.seconds + (time.perf_counter() - self.start) / len(self.members)
      about = facts_of_run(ready, workdir, seconds, self.record.folder / QUARANTINE, len(self.members))
      run = dataclasses.replace(trained, experiment=self.experiments[n], state=own)
      write_outcome(run, workdir, split, found[n], views, about)
      self._end(n, Outcome("complete", self._last_scores(n), step))

  def _save(self, n: int, state: Any, step: int, batches: Any) -> None:
    """The member's own checkpoint, from which `launch` goes on."""
    self.own[n].save(step, member(state, n), batches, {"sums": {}})
    self.own[n].wait()

  def _end(self, n: int, outcome: Outcome) -> None:
    self.record.end(self.record.members[n], outcome)
    self.ended.add(n)

  def _shrink(self, state: Any, batches: Any, checkpoints: Checkpoints) -> None:
    """Saves the running members as the population that goes on; until that is whole, the old one stays."""
    step, place = int(np.max(state.step)), self.record.next_part()
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    smaller = Checkpoints(place, self.options.keep, 0, self.options.best, say=self._say)
    smaller.save(step, chosen(state, self.running()), batches, {"sums": {}})
    smaller.score(step, checkpoints.scores[step])
    smaller.close()
    old = self.record.part
    self.record.shrink()
    checkpoints.close()
    shutil.rmtree(old, ignore_errors=True)

  def _trained(self, state: Any) -> Trained:
    ready = self.ready
    side, labels = short_side(ready.facts), ready.data.label_names
    return Trained(ready.experiment, ready.mesh, state, ready.steps.evaluate, ready.directory, labels, side)

  def _checkpoints(self, each: Member) -> Checkpoints:
    ready = self.ready
    return open_checkpoints(
      each.experiment, each.workdir, ready.directory, ready.data.label_names, ready.mesh, self.screen
    )

  def _last_scores(self, n: int) -> dict[str, float]:
    scores = self.own[n].scores
    return scores[max(scores)] if scores else {}

  def _say(self, text: str) -> None:
    self.screen.print(text, markup=False)


def _steps(members: Sequence[Member], vary: Sequence[str], sized: Experiment, mesh: Mesh) -> Steps:
  """Of the population; `sized` is one of them, for the classes of the dataset."""
  experiments = [m.experiment.for_classes(sized.task.num_classes) for m in members]
  _, values = together(experiments, vary)
  return population_of(mesh, experiments, vary).steps(values)


def _rates(experiments: Sequence[Experiment]) -> Callable[[int], np.ndarray]:
  """Learning rates of all members at a step."""
  each = [learning_rate(e.optim, e.train.steps) for e in experiments]
  return lambda step: np.array([float(rate(step)) for rate in each])
