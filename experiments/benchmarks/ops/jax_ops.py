"""The measured ops in JAX: ours, and plain, the way one would write them with XLA's own ops."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from experiments.benchmarks.ops import jax_conv, jax_recurrent, jax_transformer
from experiments.benchmarks.ops.case import OpCase
from vu_jax.layers.attention import attention
from vu_jax.layers.attention.embed import PatchEmbed
from vu_jax.layers.convolution import conv, pool, window
from vu_jax.layers.convolution.pool_lowerings import Pool
from vu_jax.layers.dense import Dense
from vu_jax.layers.recurrence import recurrent


@dataclass(frozen=True)
class JaxOp:
  """An op; both forms take the inputs and arguments of its cases as keywords.

  Fields:
    ours: takes `lowering` too where there are several.
    plain: the obvious way.
    lowerings: names of those that apply to a case.
    choose: the one that ours takes on this backend.
  """

  ours: Callable[..., Array]
  plain: Callable[..., Array]
  lowerings: Callable[[OpCase], Sequence[str]] = lambda case: ()
  choose: Callable[[OpCase], str] = lambda case: ""


def plain_max_pool(x: Array, window: Any, strides: Any, padding: Any) -> Array:
  return _reduce(x, -jnp.inf, jax.lax.max, window, strides, padding)


def plain_avg_pool(x: Array, window: Any, strides: Any, padding: Any) -> Array:
  return _reduce(x, 0.0, jax.lax.add, window, strides, padding) / math.prod(window)


def _reduce(x: Array, start: float, combine: Any, size: Any, strides: Any, padding: Any) -> Array:
  pads = window.resolve(x.shape[1:-1], size, strides, padding)
  all_pads = ((0, 0), *pads, (0, 0))
  return jax.lax.reduce_window(x, start, combine, (1, *size, 1), (1, *strides, 1), all_pads)


def _pool(case: OpCase) -> Pool:
  """What the table of pools decides by."""
  size, arguments = case.inputs["x"][1:-1], case.arguments
  pads = window.resolve(size, arguments["window"], arguments["strides"], arguments["padding"])
  return Pool(size, arguments["window"], arguments["strides"], pads)


def pool_choice(case: OpCase) -> str:
  return pool.choose(jax.default_backend(), _pool(case))


def pool_lowerings(case: OpCase) -> tuple[str, ...]:
  return ("xla", "separable", "tiles") if _pool(case).tiled else ("xla", "separable")


def linear(x: Array, kernel: Array, bias: Array) -> Array:
  layer: Any = Dense
  return layer(kernel.shape[-1], dtype=x.dtype.name).apply({"params": {"kernel": kernel, "bias": bias}}, x)


def plain_linear(x: Array, kernel: Array, bias: Array) -> Array:
  return x @ kernel + bias


def patch_embed(x: Array, kernel: Array, bias: Array) -> Array:
  layer: Any = PatchEmbed
  patch = kernel.shape[:3]
  return layer(kernel.shape[-1], patch, dtype=x.dtype.name).apply({"params": {"kernel": kernel, "bias": bias}}, x)


def plain_patch_embed(x: Array, kernel: Array, bias: Array) -> Array:
  return jax_conv.plain_conv(x, kernel, kernel.shape[:3], (0, 0, 0), (1, 1, 1), 1) + bias


def _conv(ours: Callable[..., Array], plain: Callable[..., Array]) -> JaxOp:
  return JaxOp(jax_conv.forced(ours), plain, jax_conv.lowerings, jax_conv.choose)


OPS = {
  "conv2d": _conv(conv.conv2d, jax_conv.plain_conv),
  "conv3d": _conv(conv.conv3d, jax_conv.plain_conv),
  "conv_transpose2d": _conv(conv.conv_transpose2d, jax_conv.plain_conv_transpose),
  "conv_transpose3d": _conv(conv.conv_transpose3d, jax_conv.plain_conv_transpose),
  "max_pool": JaxOp(pool.max_pool, plain_max_pool, pool_lowerings, pool_choice),
  "avg_pool": JaxOp(pool.avg_pool, plain_avg_pool, pool_lowerings, pool_choice),
  "attend": JaxOp(attention.attend, jax_transformer.plain_attend, *jax_transformer.LOWERINGS),
  "block": JaxOp(jax_transformer.block, jax_transformer.plain_block, *jax_transformer.LOWERINGS),
  "linear": JaxOp(linear, plain_linear),
  "patch_embed": JaxOp(patch_embed, plain_patch_embed),
  "rnn": JaxOp(jax_recurrent.ours(recurrent.RNN), jax_recurrent.plain_rnn),
  "lstm": JaxOp(jax_recurrent.ours(recurrent.LSTM, forget_bias=0.0), jax_recurrent.plain_lstm),
  "gru": JaxOp(jax_recurrent.ours(recurrent.GRU), jax_recurrent.plain_gru),
  "conv_lstm": JaxOp(jax_recurrent.ours(recurrent.ConvLSTM, forget_bias=0.0), jax_recurrent.plain_lstm),
  "conv_gru": JaxOp(jax_recurrent.ours(recurrent.ConvGRU), jax_recurrent.plain_conv_gru),
  "predrnn": JaxOp(jax_recurrent.predrnn, jax_recurrent.plain_predrnn),
}
