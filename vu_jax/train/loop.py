"""The only loop. It is handed state, step, batches and what to do when; it knows no model and no task."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax

from vu_jax.checkpoint import Checkpoints
from vu_jax.glossary import Count
from vu_jax.train.log import RunLog
from vu_jax.train.meter import Meter


@dataclass(frozen=True, kw_only=True)
class Train:
  """How long, and what happens how often [updates].

  Fields:
    steps: updates in all.
    eval_every_steps: evaluations on `eval_split`; the last step is always evaluated.
    eval_split: "validation" where the dataset has one, else "test".
    checkpoint_every_steps: beside the one after each evaluation.
    log_every_steps: training figures are means over so many steps.
  """

  steps: Count = 1000
  eval_every_steps: Count = 500
  eval_split: str = "validation"
  checkpoint_every_steps: Count = 500
  log_every_steps: Count = 50


Batch = Mapping[str, jax.Array]
StepFn = Callable[[Any, Batch], tuple[Any, dict[str, Any]]]


def train(
  options: Train,
  state: Any,
  train_step: StepFn,
  batches: Iterator[Any],
  to_devices: Callable[[Any], Batch],
  evaluate: Callable[[Any], dict[str, float]],
  learning_rate: Callable[[Any], Any],
  checkpoints: Checkpoints,
  log: RunLog,
) -> Any:
  """Trains to `options.steps` and returns the final state.

  1. restore the newest checkpoint, data position included
  2. evaluate when due, then checkpoint when due: both see the state after `step` updates, and the data iterator
     standing behind batch `step`
  3. next batch: decoded ahead by the loader; taken while the device still runs the step before
  4. step: dispatched, not waited for
  5. log the figures of the steps before this one, while this one runs
  """
  if checkpoints.latest() is not None:
    state = checkpoints.restore(state, batches)
  step, fresh = int(state.step), checkpoints.latest()
  meter = Meter(options.steps)

  def report(step: int) -> None:
    if values := meter.read(step):
      log.write(step, "train", values | {"lr": float(learning_rate(step - 1))})

  while True:
    scores = None
    last = step >= options.steps
    evaluation_due = last or step % options.eval_every_steps == 0
    checkpoint_due = evaluation_due or step % options.checkpoint_every_steps == 0
    if checkpoint_due and step > 0 and step != fresh:
      with meter.paused():
        if evaluation_due:
          scores = evaluate(state)
          log.write(step, options.eval_split, scores)
        checkpoints.save(step, state, batches, scores)
    if last:
      report(step)
      return state
    batch = to_devices(meter.fetch(batches))
    state, metrics = train_step(state, batch)
    if step % options.log_every_steps == 0:
      report(step)
    meter.add(metrics, len(batch["mask"]))
    step += 1
