"""The optimizer and its schedule, from typed options."""

from dataclasses import dataclass
from typing import Literal

import jax
import optax

from vu_jax.errors import UserError
from vu_jax.glossary import Count, CountOrZero, Fraction, Positive, PositiveOrZero


@dataclass(frozen=True, kw_only=True)
class Optim:
  """How parameters are updated.

  Fields:
    method: "adamw" (Loshchilov & Hutter 2019) or "sgd" with Nesterov momentum.
    lr_peak: learning rate after the warm-up.
    schedule: after the warm-up, "cosine" down to zero at the last step, or "constant".
    warmup_steps: linear rise from zero.
    weight_decay: decoupled for adamw, added to the gradient for sgd; never on biases and norms.
    momentum: of sgd.
    clip_norm: the gradient's global norm is cut to this; 0 = not cut.
  """

  method: Literal["adamw", "sgd"] = "adamw"
  lr_peak: Positive = 1e-3
  schedule: Literal["cosine", "constant"] = "cosine"
  warmup_steps: CountOrZero = 100
  weight_decay: PositiveOrZero = 1e-4
  momentum: Fraction = 0.9
  clip_norm: PositiveOrZero = 1.0


def learning_rate(options: Optim, train_steps: Count) -> optax.Schedule:
  """Step -> learning rate."""
  if options.warmup_steps >= train_steps:
    raise UserError(
      f"config.optim.warmup_steps = {options.warmup_steps}: must be below config.train.steps = {train_steps}"
    )
  if options.schedule == "constant":
    after = optax.constant_schedule(options.lr_peak)
  else:
    after = optax.cosine_decay_schedule(options.lr_peak, train_steps - options.warmup_steps)
  warmup = optax.linear_schedule(0.0, options.lr_peak, options.warmup_steps)
  return optax.join_schedules([warmup, after], [options.warmup_steps]) if options.warmup_steps else after


def optimizer(options: Optim, train_steps: Count) -> optax.GradientTransformation:
  """clip -> (decay) -> momentum or Adam -> schedule."""
  rate = learning_rate(options, train_steps)
  clip = optax.clip_by_global_norm(options.clip_norm) if options.clip_norm else optax.identity()
  match options.method:
    case "adamw":
      return optax.chain(clip, optax.adamw(rate, weight_decay=options.weight_decay, mask=decayed))
    case "sgd":
      decay = optax.add_decayed_weights(options.weight_decay, decayed)
      return optax.chain(clip, decay, optax.sgd(rate, options.momentum, nesterov=True))


def decayed(params: optax.Params) -> optax.Params:
  """True for kernels: biases and the scales of norms have fewer than two dimensions."""
  return jax.tree.map(lambda p: p.ndim > 1, params)
