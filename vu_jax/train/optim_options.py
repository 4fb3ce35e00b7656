"""How parameters are updated, as one flat record of checked values."""

from dataclasses import dataclass
from typing import Annotated, Literal

from vu_jax.glossary import CountOrZero, Fraction, Positive, PositiveOrZero, Range

Memory = Annotated[float, Range(low=0, high=1 - 1e-9)]  # what a running average keeps; 1 would never move
Share = Annotated[float, Range(low=1e-6, high=1)]
Method = Literal["adamw", "sgd", "adam", "lamb", "lion", "muon"]
Schedule = Literal["cosine", "constant", "linear", "step", "inverse_sqrt", "one_cycle"]


@dataclass(frozen=True, kw_only=True)
class Optim:
  """How parameters are updated.

  Patterns choose parameters by their paths, such as "backbone/block3/attention/qkv/kernel": the beginning of a path up
  to a slash ("head" is all of the head), where `*` stands for any text ("*/bias" is every bias).

  Fields, the method:
    method: "adamw" (Loshchilov & Hutter 2019), "sgd", "adam" (Kingma & Ba 2015), "lamb" (You et al. 2020), "lion" (Chen
      et al. 2023), or "muon" (Jordan et al. 2024) for kernels of the backbone with adamw for all other parameters, at
      the same rate.
    momentum: of sgd, and of muon's kernels (theirs: 0.95).
    nesterov: whether sgd and muon look ahead by one step of momentum.
    b1, b2: what the running averages of gradients and of their squares keep per update. Lion's paper: 0.9, 0.99.
    eps: beside the root of the squares, so that no step is divided by zero. Lamb's code: 1e-6.
    clip_norm: the gradient's global norm (without frozen parameters) is cut to this; 0 = not cut.
    clip_adaptive: the gradient of every output unit is cut to this share of the norm of the unit's own kernel (Brock
      et al. 2021, "NFNet", equation 3; theirs: 0.01); 0 = not cut.

  Fields, the learning rate (`train/schedules.py`):
    lr_peak: learning rate after the warm-up.
    schedule: after the warm-up, "cosine" or "linear" down to the end at the last step; "step", times `gamma` at each
      of `milestones`; "inverse_sqrt", as 1 / sqrt(step); "one_cycle", a cosine up and a cosine down; or "constant".
    warmup_steps: rise to the schedule, along a line ("one_cycle": half a cosine wave).
    warmup_from_frac: share of `lr_peak` at step 0.
    lr_end_frac: share of `lr_peak` at the last step of "cosine", "linear" and "one_cycle".
    falls_from: the schedule counts from the end of the "warmup", or from the "start", so that it is already below its
      peak when the warm-up reaches it (SlowFast, X3D, MViT, Video Swin).
    milestones: of "step", ascending: below 1 shares of training, else steps.
    gamma: of "step", the factor at each milestone.

  Fields, groups of parameters (`train/param_groups.py`):
    weight_decay: decoupled from the gradient for adamw, lamb, lion and muon; added to it for sgd and adam.
    decay_on: "kernels" leaves out all vectors (biases, norms), positions and class tokens; or "all" parameters.
    no_decay: patterns of further parameters that do not decay.
    layer_decay: each layer further from the head learns at this share of the next one's rate (Clark et al. 2020,
      "ELECTRA"; Bao et al. 2022, "BEiT"); 1 = all alike.
    lr_scale: pairs of (pattern, factor of the rate), such as (("head", 10.0),). Where several match, the last counts.
    frozen: patterns of parameters that stay as they are, without memory of the method. Batch statistics of norms go on
      moving unless the model stops them, too (`norm_frozen`).
  """

  method: Method = "adamw"
  lr_peak: Positive = 1e-3
  schedule: Schedule = "cosine"
  warmup_steps: CountOrZero = 100
  warmup_from_frac: Fraction = 0.0
  lr_end_frac: Fraction = 0.0
  falls_from: Literal["warmup", "start"] = "warmup"
  milestones: tuple[Positive, ...] = ()
  gamma: Share = 0.1
  weight_decay: PositiveOrZero = 1e-4
  decay_on: Literal["kernels", "all"] = "kernels"
  no_decay: tuple[str, ...] = ()
  momentum: Fraction = 0.9
  nesterov: bool = True
  b1: Memory = 0.9
  b2: Memory = 0.999
  eps: Positive = 1e-8
  clip_norm: PositiveOrZero = 1.0
  clip_adaptive: PositiveOrZero = 0.0
  layer_decay: Share = 1.0
  lr_scale: tuple[tuple[str, Positive], ...] = ()
  frozen: tuple[str, ...] = ()
