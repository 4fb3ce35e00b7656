"""The learning rate at every step: a warm-up that ends on the schedule behind it."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, TypeAlias

import jax.numpy as jnp
import optax

from vu_jax.errors import UserError
from vu_jax.glossary import Count, is_zero, known
from vu_jax.train.optim_options import Optim

Rate: TypeAlias = Callable[[Any], Any]  # step (0 = the first update) -> learning rate


def learning_rate(options: Optim, train_steps: Count) -> Rate:
  """Step -> learning rate.

  rate(n) = fall(n) from n = warmup_steps on; before, it rises from `warmup_from_frac * lr_peak` to fall(warmup_steps).

  Raises:
    UserError: a warm-up or milestones that do not fit into `train_steps`.

  Source: the warm-up is that of SlowFast's code, `falls_from` its `COSINE_AFTER_WARMUP`. "inverse_sqrt": Vaswani et
    al. 2017, equation 3. "one_cycle": Smith and Topin 2018; torch's `OneCycleLR` has `warmup_from_frac=0.04`,
    `lr_end_frac=4e-6` and a warm-up over 0.3 of the steps.
  Differs from torch: its one cycle ends one step earlier, and moves momentum (b1) against the rate unless told not to.
  Differs from mmcv: with `falls_from="start"` it multiplies the falling rate by the line of the warm-up.
  """
  warmup = options.warmup_steps
  if known(warmup) and warmup >= train_steps:
    raise UserError(f"config.optim.warmup_steps = {warmup}: must be below config.train.steps = {train_steps}")
  fall = falling(options, train_steps)
  start = options.warmup_from_frac * options.lr_peak
  rise = cosine_rise if options.schedule == "one_cycle" else line
  if is_zero(warmup):
    return fall
  return lambda step: jnp.where(step < warmup, rise(start, fall(warmup), warmup)(step), fall(step))


def falling(options: Optim, train_steps: Count) -> Rate:
  """The schedule behind the warm-up, as a function of the step since the start of training."""
  peak, end = options.lr_peak, options.lr_end_frac
  begin = options.warmup_steps if options.falls_from == "warmup" else 0
  match options.schedule:
    case "constant":
      return optax.constant_schedule(peak)
    case "cosine" | "one_cycle":
      return cosine(peak, train_steps - begin, end, begin)
    case "linear":
      return line(peak, peak * end, train_steps - begin, begin)
    case "inverse_sqrt":
      return partial(inverse_sqrt, peak, options.warmup_steps)
    case "step":
      return optax.piecewise_constant_schedule(peak, dict.fromkeys(milestones(options, train_steps), options.gamma))


# Like those of optax, but for numbers of steps that may be traced.
def line(start: Any, end: Any, steps: Any, begin: Any = 0) -> Rate:
  """From `start` up to step `begin` to `end` from `begin + steps` on."""
  return lambda step: (start - end) * (1 - jnp.clip(step - begin, 0, steps) / steps) + end


def cosine(start: Any, steps: Any, end_frac: Any, begin: Any = 0) -> Rate:
  """Half a wave from `start` at step `begin` to `end_frac * start` from `begin + steps` on."""

  def rate(step: Any) -> Any:
    # The power is optax's: without it XLA rounds otherwise.
    wave = 0.5 * (1 + jnp.cos(jnp.pi * jnp.minimum(step - begin, 1.0 * steps) / steps))
    return start * ((1 - end_frac) * wave**1.0 + end_frac)

  return rate


def inverse_sqrt(peak: Any, warmup_steps: Any, step: Any) -> Any:
  first = jnp.maximum(warmup_steps, 1)
  return peak * jnp.sqrt(first / jnp.maximum(step, first))


def cosine_rise(start: Any, end: Any, steps: Any) -> Rate:
  """Half a wave from `start` at step 0 to `end` at `steps`."""
  return lambda step: end + (start - end) * (1 + jnp.cos(jnp.pi * step / steps)) / 2


def milestones(options: Optim, train_steps: Count) -> list[int]:
  """The steps at which the rate falls.

  Raises:
    UserError: none are given, or they do not ascend between the warm-up and the end of training.
  """
  if not options.milestones:
    raise UserError('config.optim.milestones: schedule "step" needs some, such as (0.5, 0.75) of training')
  steps = [round(m * train_steps) if m < 1 else round(m) for m in options.milestones]
  bounds = [*([options.warmup_steps] if known(options.warmup_steps) else []), *steps, train_steps]
  if any(a >= b for a, b in pairwise(bounds)):
    raise UserError(
      f"config.optim.milestones = {options.milestones}: steps {steps} must ascend, behind "
      f"config.optim.warmup_steps = {options.warmup_steps} and before config.train.steps = {train_steps}"
    )
  return steps
