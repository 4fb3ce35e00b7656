"""One exact pass over a split: the figures of a run, or of all members of a population at once."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import Progress

from experiments.running.trained import Trained
from vu_jax.data.loader import eval_batches, num_eval_batches
from vu_jax.data.protocol import Eval
from vu_jax.data.source import PreparedSource, Source
from vu_jax.evaluate import evaluate, evaluate_views
from vu_jax.metrics.sums import Sums, divide
from vu_jax.train.mesh import to_devices
from vu_jax.train.population import member, stacked

OnBatch = Callable[[], None]
_OF_THE_DATA = ("index", "label")


class Scored(NamedTuple):
  """summary: of the task. totals: its merged sums. outputs: per video, in the order of the split.

  With several views per video all are those of the averages; the summary also has the accuracy of single views.
  """

  summary: dict[str, float]
  totals: Any
  outputs: dict[str, np.ndarray]


def score(trained: Trained, state: Any, source: Source, views: Eval, on_batch: OnBatch = lambda: None) -> Scored:
  """Of one run."""
  task = trained.experiment.task
  totals, outputs, single = _passed(trained, state, trained.eval_step, task.sums, source, views, on_batch)
  return Scored(_summary(task, totals, single), totals, outputs)


def score_members(
  trained: Trained, tasks: Sequence[Any], state: Any, source: Source, views: Eval, on_batch: OnBatch = lambda: None
) -> list[Scored]:
  """Of all members: the clips are decoded once.

  Args:
    trained: one member, with the evaluation step of the population.
    tasks: of the members.
    state: of the population.
  """

  def eval_step(state: Any, batch: Any) -> tuple[Any, Any]:
    sums, out = trained.eval_step(state, batch)
    return sums, {name: x.swapaxes(0, 1) for name, x in out.items()}  # clips first, as of a run

  def sums(out: Mapping[str, Any], batch: Mapping[str, Any]) -> Any:
    each = [{**out, "logits": out["logits"][:, i]} for i in range(len(tasks))]
    return stacked([task.sums(out, batch) for task, out in zip(tasks, each, strict=True)])

  totals, outputs, single = _passed(trained, state, eval_step, sums, source, views, on_batch)
  found = []
  for i, task in enumerate(tasks):
    own = {name: column if name in _OF_THE_DATA else column[:, i] for name, column in outputs.items()}
    summary = _summary(task, member(totals, i), single and member(single, i))
    found.append(Scored(summary, member(totals, i), own))
  return found


def shown(screen: Console, trained: Trained, split: str, views: Eval, scored: Callable[[Source, OnBatch], Any]) -> Any:
  """What `scored` finds on a split, with a bar while it looks."""
  source = PreparedSource(trained.directory, split)
  with Progress(console=screen, transient=True) as bar:
    task = bar.add_task(f"evaluate on {split}", total=num_eval_batches(source, trained.experiment.eval_loader(), views))
    return scored(source, lambda: bar.advance(task))


def _passed(
  trained: Trained,
  state: Any,
  eval_step: Callable[[Any, Any], tuple[Any, Any]],
  sums: Callable[[Any, Any], Any],
  source: Source,
  views: Eval,
  on_batch: OnBatch,
) -> tuple[Sums, dict[str, np.ndarray], Sums | None]:
  """Sums and outputs, and the sums over single views where a video has several."""
  on = trained.experiment
  batches = eval_batches(source, on.clip, on.pixels, on.eval_loader(), views, on.audio)
  place = partial(to_devices, trained.mesh)
  if views.num_views == 1:
    return *evaluate(state, eval_step, batches, place, on_batch), None
  return evaluate_views(state, eval_step, batches, place, sums, views.num_views, views.average, on_batch)


def _summary(task: Any, totals: Sums, single: Sums | None) -> dict[str, float]:
  alone = divide(single) if single else {}
  return {**task.summary(totals), **{f"{k}_one_view": v for k, v in alone.items() if k == "top1"}}
