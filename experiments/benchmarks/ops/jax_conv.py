"""Convolutions in JAX: XLA's own as they are, and which lowerings of ours there are for a case."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from experiments.benchmarks.ops.case import OpCase
from vu_jax.layers.convolution import conv_table, window
from vu_jax.layers.convolution.conv_lowerings import DENSE, GROUPED, applies
from vu_jax.layers.convolution.conv_steps import METHODS
from vu_jax.layers.convolution.window import Window


def plain_conv(x: Array, kernel: Array, strides: Any, padding: Any, dilation: Any, groups: int) -> Array:
  pads = window.resolve(x.shape[1:-1], kernel.shape[:-2], strides, padding, dilation)
  names = ("NHWC", "HWIO", "NHWC") if x.ndim == 4 else ("NDHWC", "DHWIO", "NDHWC")
  return jax.lax.conv_general_dilated(
    x, kernel, strides, pads, rhs_dilation=dilation, dimension_numbers=names, feature_group_count=groups
  )


def plain_conv_transpose(x: Array, kernel: Array, strides: Any, padding: Any) -> Array:
  """As torch's: the gradient of a convolution by its input, (n - 1) stride - 2 padding + k positions."""
  axes = range(len(strides))
  names = ("NHWC", "HWIO", "NHWC") if x.ndim == 4 else ("NDHWC", "DHWIO", "NDHWC")
  pads = [(k - 1 - p, k - 1 - p) for k, p in zip(kernel.shape, padding, strict=False)]
  return jax.lax.conv_general_dilated(
    x, jnp.flip(kernel, axes), (1,) * len(axes), pads, lhs_dilation=strides, dimension_numbers=names
  )


def choose(case: OpCase) -> str:
  """The lowering that our table picks; three, where the gradients by input and by kernel take others."""
  shape, kernel_shape, moves = _described(case)
  plan = conv_table.choose(jax.default_backend(), shape, kernel_shape, moves)
  if "transpose" in case.op:
    return _shown(plan.input_gradient)
  names = dict.fromkeys(_shown(name) for name in (plan.forward, plan.input_gradient, plan.kernel_gradient))
  if len(names) == 1:
    return next(iter(names))
  return f"{_shown(plan.forward)} (dx {_shown(plan.input_gradient)}, dk {_shown(plan.kernel_gradient)})"


def lowerings(case: OpCase) -> list[str]:
  """XLA's own, and every lowering of one step that applies."""
  _, kernel_shape, moves = _described(case)
  steps = [f"{axis}:{method}" for axis in "thw"[-len(moves.strides) :] for method in METHODS]
  channels = kernel_shape[-2] * moves.groups
  names = dict.fromkeys((*DENSE, *GROUPED, *steps))
  return [_shown(name) for name in names if applies(name, kernel_shape, moves, channels)]


def forced(function: Any) -> Any:
  """Our function, whose lowering is given by the name that `lowerings` shows."""

  def run(lowering: str | None = None, **arguments: Any) -> Array:
    return function(**arguments, lowering="" if lowering == FOLDED else lowering)

  return run


FOLDED = "folded"  # what the lowering without steps is called here


def _shown(name: str) -> str:
  return name or FOLDED


def _described(case: OpCase) -> tuple[tuple[int, ...], tuple[int, ...], Window]:
  """What the table decides by; a transposed convolution is the input gradient of the one that it turns round."""
  x, kernel, strides = case.inputs["x"], case.inputs["kernel"], case.arguments["strides"]
  size = x[1:-1]
  ones = (1,) * len(strides)
  if "transpose" in case.op:
    full = [(n - 1) * s + k for n, s, k in zip(size, strides, kernel, strict=False)]
    pads = window.resolve(full, kernel[:-2], strides, case.arguments["padding"], ones)
    outputs = [n - sum(p) for n, p in zip(full, pads, strict=True)]
    return (x[0], *outputs, kernel[-1]), (*kernel[:-2], kernel[-1], kernel[-2]), Window(strides, pads, ones)
  dilation, groups = case.arguments["dilation"], case.arguments["groups"]
  pads = window.resolve(size, kernel[:-2], strides, case.arguments["padding"], dilation)
  return x, kernel, Window(strides, pads, dilation, groups)
