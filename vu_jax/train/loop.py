"""The only loop. It is handed state, step, batches and what to do when; it knows no model and no task.

It trains one run or a population, whose figures are arrays (P,) then; see `train/meter.py`, `train/log.py`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from vu_jax.checkpoint.saving import Checkpoints
from vu_jax.checkpoint.scores import Best, Direction, waited
from vu_jax.checkpoint.transfer import Which
from vu_jax.errors import UserError
from vu_jax.glossary import Count, CountOrZero, Fraction
from vu_jax.train.log import Log
from vu_jax.train.meter import Figure, Meter
from vu_jax.train.profiling import Profile
from vu_jax.train.signals import Interrupted, StopSignals
from vu_jax.train.writers import Name


@dataclass(frozen=True, kw_only=True)
class Train:
  """How long, and what happens how often [updates].

  Fields:
    steps: updates in all.
    eval_every_steps: evaluations on `eval_split`; the last step is always evaluated.
    eval_split: "validation" where the dataset has one, else "test".
    checkpoint_every_steps: beside the one before each evaluation.
    log_every_steps: training figures are means over so many steps.
    accumulate: each batch is computed in so many parts, one after the other (`train/accumulate.py`); their activations
      need the memory of one part.
    ema_decay: of a running average of the parameters, which evaluation uses then (`train/ema.py`); 0 = none.
    max_skipped_steps: so many steps in a row whose loss, gradient or new parameters are not finite end the run.
    keep: so many of the newest checkpoints stay.
    keep_best: and so many of those that were evaluated, the best by `best_metric`.
    best_metric: of the evaluation; "" = top1 where there is one, else loss.
    best_direction: of that metric; "auto" = lowest for losses, errors and perplexities, else highest.
    stop_patience: so many evaluations in a row that are not better than the best one end training; 0 = never.
    writers: where figures go, beside the terminal: "jsonl" (which the report reads), "tensorboard", "wandb".
    profile_steps: (start, stop) traces the steps start + 1 .. stop into `profile/`; () = none.
    init_from: a run directory, or an .npz file of imported weights, whose variables a new run starts with.
    init_step: which of that run's checkpoints.
    init_allow_new: prefixes of parameters that need not fit those.
  """

  steps: Count = 1000
  eval_every_steps: Count = 500
  eval_split: str = "validation"
  checkpoint_every_steps: Count = 500
  log_every_steps: Count = 50
  accumulate: Count = 1
  ema_decay: Fraction = 0.0
  max_skipped_steps: Count = 20
  keep: Count = 2
  keep_best: CountOrZero = 1
  best_metric: str = ""
  best_direction: Direction = "auto"
  stop_patience: CountOrZero = 0
  writers: tuple[Name, ...] = ("jsonl", "tensorboard")
  profile_steps: tuple[CountOrZero, ...] = ()
  init_from: str = ""
  init_step: Which = "latest"
  init_allow_new: tuple[str, ...] = ("head",)

  def __post_init__(self) -> None:
    if self.profile_steps and not (len(self.profile_steps) == 2 and self.profile_steps[0] < self.profile_steps[1]):
      raise UserError(
        f"profile_steps = {self.profile_steps}: must be (start, stop) with start < stop, such as (10, 15)"
      )

  @property
  def best(self) -> Best:
    return Best(self.best_metric, self.best_direction)


Batch = Mapping[str, jax.Array]
StepFn = Callable[[Any, Batch], tuple[Any, dict[str, Any]]]


def train(
  options: Train,
  state: Any,
  train_step: StepFn,
  batches: Iterator[Any],
  to_devices: Callable[[Any], Batch],
  evaluate: Callable[[Any], Mapping[str, Figure]],
  learning_rate: Callable[[Any], Any],
  checkpoints: Checkpoints,
  log: Log,
  stop: StopSignals,
  profile: Profile,
  enough: Callable[[], bool] = lambda: False,
) -> Any:
  """Trains to `options.steps`, or until nothing has improved for long, and returns the final state.

  1. restore the newest checkpoint, data position included, and forget the records of later steps
  2. log what is due, checkpoint when due, then evaluate when due: all see the state after `step` updates, and the data
     iterator standing behind batch `step`. A kill during a long evaluation costs the evaluation alone
  3. stop if it is time to: after the last step, without improvement, if `enough` says so after an evaluation, or when
     asked to, once all is saved
  4. next batch: decoded ahead by the loader; taken while the device still runs the step before
  5. step: dispatched, not waited for
  6. log the figures of the steps before this one, while this one runs

  Raises:
    Interrupted: the run was asked to stop; the same call continues it, exactly.
    UserError: the loss is no longer a number; the checkpoints are of before.
  """
  if checkpoints.latest() is not None:
    state = checkpoints.restore(state, batches)
    log.say(f"continues  from step {int(np.max(state.step))}")
  step = int(np.max(state.step))  # members that have diverged stand still
  log.begin(step, evaluated=step in checkpoints.scores)
  meter = Meter(options.steps, options.max_skipped_steps, checkpoints.progress.get("sums"))

  def report() -> None:
    if values := meter.read(step):
      log.write(step, "train", values | {"lr": np.asarray(learning_rate(step - 1))})

  while True:
    last = step >= options.steps
    log_due = last or step % options.log_every_steps == 0
    evaluation_due = step > 0 and (last or step % options.eval_every_steps == 0) and step not in checkpoints.scores
    checkpoint_due = step > 0 and (evaluation_due or step % options.checkpoint_every_steps == 0)
    # Hosts must agree, which costs them a step's overlap, so they ask each other now and then only.
    asked = stop.anywhere() if jax.process_count() == 1 or log_due or checkpoint_due else False
    if checkpoint_due or asked:
      if log_due:
        report()
      with meter.paused():
        saved = not meter.failing  # lest the last good ones be replaced
        if saved:
          checkpoints.save(step, state, batches, {"sums": meter.state()})
        if asked:
          raise Interrupted(f"step {step}, {'saved' if saved else 'which failed and is not saved'}")
        if evaluation_due:
          scores = evaluate(state)
          log.write(step, options.eval_split, scores)
          checkpoints.score(step, scores)
          if enough():
            return state
    if last or (options.stop_patience and waited(checkpoints.scores, options.best) >= options.stop_patience):
      if not last:
        log.say(f"step {step}: no better {options.eval_split} figure in {options.stop_patience} evaluations; stopping")
      return state
    if line := profile.before_step(step, state):
      log.say(line)
    batch = to_devices(meter.fetch(batches))
    state, metrics = train_step(state, batch)
    if log_due:
      report()
    meter.add(metrics, len(batch["mask"]))
    step += 1
