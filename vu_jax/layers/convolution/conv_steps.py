"""Ways to take one axis of the window out of a convolution, for `conv_lowerings`, which says what they are for.

Each rewrites the convolution as one whose window is 1 along `axis`, which `conv` computes.
"""

import functools
from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jaxtyping import Array

from vu_jax.layers.convolution.window import Window

Conv = Callable[[Array, Array, Window], Array]


def unfold(x: Array, kernel: Array, window: Window, axis: int, conv: Conv) -> Array:
  """im2col along one axis: the k shifted inputs lie side by side in the channels."""
  shifts = _shifts(x, kernel.shape[axis], window, axis)
  deep = jnp.moveaxis(kernel, axis, -3)
  deep = jnp.expand_dims(deep.reshape(*deep.shape[:-3], -1, kernel.shape[-1]), axis)
  return conv(jnp.concatenate(shifts, -1), deep, window.without(axis))


def spread(x: Array, kernel: Array, window: Window, axis: int, conv: Conv) -> Array:
  """im2col transposed: one convolution makes the terms of all k taps side by side, which are shifted and added."""
  k, features = kernel.shape[axis], kernel.shape[-1]
  wide = jnp.moveaxis(kernel, axis, -2)
  wide = jnp.expand_dims(wide.reshape(*wide.shape[:-2], k * features), axis)
  terms = conv(x, wide, window.without(axis))
  parts = [_shifts(part, k, window, axis)[i] for i, part in enumerate(jnp.split(terms, k, -1))]
  return functools.reduce(jnp.add, parts)


def taps(x: Array, kernel: Array, window: Window, axis: int, conv: Conv) -> Array:
  """One convolution per tap along the axis, added."""
  k = kernel.shape[axis]
  pairs = zip(_shifts(x, k, window, axis), jnp.split(kernel, k, axis), strict=True)
  return functools.reduce(jnp.add, [conv(shift, tap, window.without(axis)) for shift, tap in pairs])


def winograd(x: Array, kernel: Array, window: Window, axis: int, conv: Conv) -> Array:
  """F(2, 3): two outputs of three taps from four products instead of six (Lavin & Gray 2016, equation 5)."""
  outputs = x.shape[axis + 1] + sum(window.pads[axis]) - 2
  pairs = -(-outputs // 2)
  low, high = window.pads[axis]
  x = pad(x, (low, high + 2 * pairs - outputs), axis)
  d0, d1, d2, d3 = (x[at(axis, slice(i, i + 2 * pairs - 1, 2))] for i in range(4))
  g0, g1, g2 = jnp.split(kernel, 3, axis)
  inner = window.without(axis)
  m0, m1 = conv(d0 - d2, g0, inner), conv(d1 + d2, (g0 + g1 + g2) / 2, inner)
  m2, m3 = conv(d2 - d1, (g0 - g1 + g2) / 2, inner), conv(d1 - d3, g2, inner)
  y = jnp.stack([m0 + m1 + m2, m1 - m2 - m3], axis + 2)
  y = y.reshape(*y.shape[: axis + 1], 2 * pairs, *y.shape[axis + 3 :])
  return y[at(axis, slice(outputs))]


def depth(x: Array, kernel: Array, window: Window, axis: int, conv: Conv) -> Array:
  """Space to depth: the phases of the stride become channels, and the stride 1."""
  k, stride, (low, high) = kernel.shape[axis], window.strides[axis], window.pads[axis]
  outputs = (x.shape[axis + 1] + low + high - k) // stride + 1
  blocks = -(-k // stride)
  length = (outputs + blocks - 1) * stride
  x = pad(x, (low, max(length - low - x.shape[axis + 1], 0)), axis)[at(axis, slice(length))]
  x = _phases(x, axis + 1, stride, x.ndim)
  kernel = _phases(pad(kernel, (0, blocks * stride - k), axis - 1), axis, stride, kernel.ndim - 1)
  return conv(x, kernel, window.without(axis))


METHODS = {"unfold": unfold, "spread": spread, "taps": taps, "winograd": winograd, "depth": depth}


def step_applies(step: str, kernel_shape: Sequence[int], window: Window) -> bool:
  """Whether "axis:method" can take its axis out of the convolution."""
  letter, _, method = step.partition(":")
  letters = "thw"[-len(window.strides) :]
  if method not in METHODS or letter not in letters:
    return False
  axis = letters.index(letter)
  if method == "winograd":
    return (kernel_shape[axis], window.strides[axis], window.dilation[axis]) == (3, 1, 1)
  if method == "depth":
    return kernel_shape[axis] > 1 and window.strides[axis] > 1 and window.dilation[axis] == 1
  return kernel_shape[axis] > 1


def at(axis: int, index: slice) -> tuple[slice, ...]:
  """Indexes one window axis of (B, *size, C)."""
  return (slice(None),) * (axis + 1) + (index,)


def pad(x: Array, pads: tuple[int, int], axis: int) -> Array:
  if pads == (0, 0):
    return x
  return jnp.pad(x, [pads if i == axis + 1 else (0, 0) for i in range(x.ndim)])


def _shifts(x: Array, k: int, window: Window, axis: int) -> list[Array]:
  """What each of the k taps along an axis sees, one array per tap."""
  stride, dilation = window.strides[axis], window.dilation[axis]
  x = pad(x, window.pads[axis], axis)
  last = x.shape[axis + 1] - (k - 1) * dilation
  return [x[at(axis, slice(i * dilation, i * dilation + last, stride))] for i in range(k)]


def _phases(x: Array, axis: int, stride: int, channels: int) -> Array:
  """Moves the position within each block of `stride` positions of an axis into the channels before axis `channels`."""
  shape = x.shape
  x = x.reshape(*shape[:axis], shape[axis] // stride, stride, *shape[axis + 1 :])
  x = jnp.moveaxis(x, axis + 1, channels - 1)
  return x.reshape(*x.shape[: channels - 1], -1, *x.shape[channels + 1 :])
