"""Depthwise convolution as shifted multiply-adds: one fused loop, where XLA's grouped convolution is 200 times slower.

Arrays are channels last: x (B, *size, C), kernel (*window, 1, D) with D a multiple of C.
"""

import functools
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array

from vu_jax.layers.convolution.window import Pads, output_size

# Rows of so few columns are reduced for few taps at a time, longer ones for all.
_SHORT, _ROW_TAPS = 24, 3


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def shift(x: Array, kernel: Array, strides: tuple[int, ...], pads: Pads, dilation: tuple[int, ...]) -> Array:
  """Sum over the taps of the window of (shifted input) x (tap), accumulated in float32."""
  x = _per_output(x, kernel.shape[-1])
  size = output_size(x.shape[1:-1], kernel.shape[:-2], strides, pads, dilation)
  return _multiply_add(_pad(x, pads), kernel, strides, dilation, size).astype(x.dtype)


def _forward(x, kernel, strides, pads, dilation):
  return shift(x, kernel, strides, pads, dilation), (x, kernel)


def _backward(strides, pads, dilation, saved, dy):
  x, kernel = saved
  dx = _input_gradient(dy, kernel, x.shape[1:-1], strides, pads, dilation).astype(x.dtype)
  dx = dx.reshape(*x.shape, -1).sum(-1) if dx.shape != x.shape else dx
  wide = _pad(_per_output(x, kernel.shape[-1]), pads)
  return dx, _kernel_gradient(wide, dy, kernel, strides, dilation).astype(kernel.dtype)


shift.defvjp(_forward, _backward)


def _input_gradient(dy, kernel, size, strides, pads, dilation):
  """The same sum with the window reversed, over dy with its strides filled with zeros."""
  window, outputs = kernel.shape[:-2], dy.shape[1:-1]
  config = [(0, 0, 0)]
  for n, k, stride, (low, _), d, out in zip(size, window, strides, pads, dilation, outputs, strict=True):
    before = (k - 1) * d - low
    config.append((before, n + (k - 1) * d - before - (out - 1) * stride - 1, stride - 1))
  dy = jax.lax.pad(dy, jnp.zeros((), dy.dtype), [*config, (0, 0, 0)])
  axes = tuple(range(len(window)))
  return _multiply_add(dy, jnp.flip(kernel, axes), (1,) * len(window), dilation, size)


def _kernel_gradient(x, dy, kernel, strides, dilation):
  """Many taps in one reduction, as one per tap reads everything anew; over columns, whose rows stay in the cache."""
  shifts = _shifts(x, kernel.shape[:-2], strides, dilation, dy.shape[1:-1])
  terms = [s.astype(jnp.float32) * dy.astype(jnp.float32) for s in shifts]
  together = len(terms) if dy.shape[-2] > _SHORT else _ROW_TAPS
  sums = [s for i in range(0, len(terms), together) for s in _sum_columns(terms[i : i + together])]
  return jnp.stack([s.reshape(-1, dy.shape[-1]).sum(0) for s in sums]).reshape(kernel.shape)


def _sum_columns(terms: list[Array]) -> Sequence[Array]:
  """(B ... W D) -> (B ... D) of each."""
  add = lambda a, b: [i + j for i, j in zip(a, b, strict=True)]  # noqa: E731
  return jax.lax.reduce(terms, [jnp.zeros((), jnp.float32)] * len(terms), add, (terms[0].ndim - 2,))


def _multiply_add(x, kernel, strides, dilation, size):
  """The barrier keeps XLA from computing it anew in every op that follows, such as a norm, a gate and SiLU."""
  taps = kernel.reshape(-1, kernel.shape[-1]).astype(jnp.float32)
  shifts = _shifts(x, kernel.shape[:-2], strides, dilation, size)
  products = [s.astype(jnp.float32) * tap for s, tap in zip(shifts, taps, strict=True)]
  return jax.lax.optimization_barrier(functools.reduce(jnp.add, products))


def _shifts(
  x: Array, window: Sequence[int], strides: Sequence[int], dilation: Sequence[int], size: Sequence[int]
) -> list[Array]:
  """What each tap sees of the padded input, row-major over the window."""

  def seen(tap):
    spans = zip(tap, dilation, size, strides, strict=True)
    return x[(slice(None), *(slice(i * d, i * d + (n - 1) * s + 1, s) for i, d, n, s in spans))]

  return [seen(tap) for tap in itertools.product(*map(range, window))]


def _pad(x: Array, pads: Pads) -> Array:
  """Zeros around the input; copying whole rows side by side is twice as fast as XLA's element-wise pad.

  The barrier keeps XLA from doing so once per tap.
  """
  for axis, pair in reversed(list(enumerate(pads, start=1))):
    low, high = (jnp.zeros((*x.shape[:axis], n, *x.shape[axis + 1 :]), x.dtype) for n in pair)
    x = jnp.concatenate([low, x, high], axis) if any(pair) else x
  return jax.lax.optimization_barrier(x)


def _per_output(x: Array, features: int) -> Array:
  """Each input channel as often as it has outputs (D / C times, neighbouring)."""
  return x if x.shape[-1] == features else jnp.repeat(x, features // x.shape[-1], axis=-1)
