"""Ways to compute one convolution: each axis of the window can be taken out of it.

A lowering is a word or a row of steps such as "t:winograd h:unfold". A step "axis:method" rewrites the convolution as
one whose window is 1 along that axis, and hands that to the next step. What is left after the last step is a matrix
product where the whole window is 1, else XLA's convolution with the axes of window 1 folded into the batch; ""
(no step) is only that. All rewritings are exact, and XLA derives their gradients.

Arrays are channels last: x (B, *size, C), kernel (*window, C / groups, D), with one to three axes, the last of which
are height and width.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jaxtyping import Array

from vu_jax.layers.convolution.depthwise import shift
from vu_jax.layers.convolution.window import Pads, output_size


@dataclass(frozen=True)
class Window:
  """How the window moves; every tuple has one entry per axis."""

  strides: tuple[int, ...]
  pads: Pads
  dilation: tuple[int, ...]
  groups: int = 1

  def without(self, axis: int) -> "Window":
    """For the convolution whose window is 1 along `axis`: nothing left to pad or to skip there."""
    return replace(
      self,
      strides=_put(self.strides, axis, 1),
      pads=_put(self.pads, axis, (0, 0)),
      dilation=_put(self.dilation, axis, 1),
    )


Conv = Callable[[Array, Array, Window], Array]


def plain(x: Array, kernel: Array, window: Window) -> Array:
  """XLA's convolution as it is, where its gradient does not abort the process."""
  if _aborts_xla(x, kernel, window):
    return _unfolded(x, kernel, window)
  letters = "DHW"[-len(window.strides) :]
  names = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    window.strides,
    window.pads,
    rhs_dilation=window.dilation,
    dimension_numbers=names,
    feature_group_count=window.groups,
  )


def small(x: Array, kernel: Array, window: Window) -> Array:
  """XLA's convolution, or a matrix product where XLA would take the map for the kernel, as the smaller of the two.

  The CPU then computes 50 times slower (3x3 on 2x2, 320 channels: 3 GFLOP/s).
  """
  taps, inputs = math.prod(kernel.shape[:-2]), math.prod(x.shape[1:-1])
  gradient = math.prod(_outputs(x, kernel, window)) if max(window.strides) == 1 else inputs
  swapped = window.groups == 1 and min(inputs, gradient) < taps
  return _unfolded(x, kernel, window) if swapped else plain(x, kernel, window)


def _aborts_xla(x: Array, kernel: Array, window: Window) -> bool:
  """Whether XLA would abort the process on the input gradient.

  Where it swaps map and kernel, it gets the window wrong when strides differ (jax 0.10.2). It was seen for up to 1.4
  times as many outputs as taps.
  """
  mixed = len(set(window.strides)) > 1 and window.groups == 1
  return mixed and math.prod(_outputs(x, kernel, window)) <= 2 * math.prod(kernel.shape[:-2])


def _outputs(x: Array, kernel: Array, window: Window) -> tuple[int, ...]:
  return output_size(x.shape[1:-1], kernel.shape[:-2], window.strides, window.pads, window.dilation)


def _unfolded(x: Array, kernel: Array, window: Window) -> Array:
  """A matrix product, by im2col along all axes."""
  sizes = kernel.shape[:-2]
  steps = [f"{letter}:unfold" for letter, k in zip("thw"[-len(sizes) :], sizes, strict=True) if k > 1]
  return lower(x, kernel, window, " ".join(steps))


def folded(x: Array, kernel: Array, window: Window) -> Array:
  """A matrix product where the whole window is 1; else a 2-D convolution wherever axes of window 1 allow it.

  Leading axes of window 1 go into the batch; after a temporal window height and width become one axis.
  """
  for axis, k in enumerate(kernel.shape[:-2]):
    if k == 1:  # a stride without a window only leaves positions out
      x = _pad(x, window.pads[axis], axis)[_at(axis, slice(None, None, window.strides[axis]))]
      window = window.without(axis)
  sizes, channels = kernel.shape[:-2], kernel.shape[-2:]
  if window.groups == 1 and set(sizes) == {1}:
    return _product(x, kernel.reshape(channels))
  if len(sizes) == 3 and sizes[0] == 1:
    flat = Window(window.strides[1:], window.pads[1:], window.dilation[1:], window.groups)
    y = small(x.reshape(-1, *x.shape[2:]), kernel[0], flat)
    return y.reshape(*x.shape[:2], *y.shape[1:])
  if len(sizes) == 3 and sizes[1:] == (1, 1):
    flat = Window((window.strides[0], 1), (window.pads[0], (0, 0)), (window.dilation[0], 1), window.groups)
    y = small(x.reshape(*x.shape[:2], -1, x.shape[-1]), kernel[:, 0], flat)
    return y.reshape(*y.shape[:2], *x.shape[2:4], -1)
  return small(x, kernel, window)


@jax.custom_vjp
def _product(x: Array, kernel: Array) -> Array:
  return x @ kernel


def _product_backward(saved, dy):
  x, kernel = saved
  flat = [a.reshape(-1, a.shape[-1]) for a in (dy, x)]
  # dy first: where both operands lie the wrong way round, XLA's CPU is up to twice as fast with the smaller one first
  dkernel = jax.lax.dot_general(*flat, (((0,), (0,)), ((), ())))
  return dy @ kernel.T, dkernel.T


_product.defvjp(lambda x, kernel: (x @ kernel, (x, kernel)), _product_backward)


def split(x: Array, kernel: Array, window: Window) -> Array:
  """Grouped: one convolution per group of channels."""
  parts = zip(jnp.split(x, window.groups, -1), jnp.split(kernel, window.groups, -1), strict=True)
  return jnp.concatenate([folded(part, taps, replace(window, groups=1)) for part, taps in parts], -1)


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
  x = _pad(x, (low, high + 2 * pairs - outputs), axis)
  d0, d1, d2, d3 = (x[_at(axis, slice(i, i + 2 * pairs - 1, 2))] for i in range(4))
  g0, g1, g2 = jnp.split(kernel, 3, axis)
  inner = window.without(axis)
  m0, m1 = conv(d0 - d2, g0, inner), conv(d1 + d2, (g0 + g1 + g2) / 2, inner)
  m2, m3 = conv(d2 - d1, (g0 - g1 + g2) / 2, inner), conv(d1 - d3, g2, inner)
  y = jnp.stack([m0 + m1 + m2, m1 - m2 - m3], axis + 2)
  y = y.reshape(*y.shape[: axis + 1], 2 * pairs, *y.shape[axis + 3 :])
  return y[_at(axis, slice(outputs))]


def depth(x: Array, kernel: Array, window: Window, axis: int, conv: Conv) -> Array:
  """Space to depth: the phases of the stride become channels, and the stride 1."""
  k, stride, (low, high) = kernel.shape[axis], window.strides[axis], window.pads[axis]
  outputs = (x.shape[axis + 1] + low + high - k) // stride + 1
  blocks = -(-k // stride)
  length = (outputs + blocks - 1) * stride
  x = _pad(x, (low, max(length - low - x.shape[axis + 1], 0)), axis)[_at(axis, slice(length))]
  x = _phases(x, axis + 1, stride, x.ndim)
  kernel = _phases(_pad(kernel, (0, blocks * stride - k), axis - 1), axis, stride, kernel.ndim - 1)
  return conv(x, kernel, window.without(axis))


METHODS = {"unfold": unfold, "spread": spread, "taps": taps, "winograd": winograd, "depth": depth}
DENSE = ("", "xla")
GROUPED = ("xla", "split", "shift")


def applies(name: str, kernel_shape: Sequence[int], window: Window, channels: int) -> bool:
  """Whether a lowering can compute this convolution of an input with so many channels."""
  if window.groups > 1:
    return name in GROUPED and (name != "shift" or window.groups == channels)
  return all(_step_applies(step, kernel_shape, window) for step in name.split() if step not in DENSE)


def _step_applies(step: str, kernel_shape: Sequence[int], window: Window) -> bool:
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


def lower(x: Array, kernel: Array, window: Window, name: str) -> Array:
  """The convolution by the lowering of that name."""
  if name == "xla":
    return plain(x, kernel, window)
  if name == "split":
    return split(x, kernel, window)
  if name == "shift":
    return shift(x, kernel, window.strides, window.pads, window.dilation)
  first, _, rest = name.partition(" ")
  if not first:
    return folded(x, kernel, window)
  letter, _, method = first.partition(":")
  axis = "thw"[-len(window.strides) :].index(letter)
  return METHODS[method](x, kernel, window, axis, functools.partial(lower, name=rest))


def _put(values: tuple, axis: int, value) -> tuple:
  return (*values[:axis], value, *values[axis + 1 :])


def _at(axis: int, index: slice) -> tuple[slice, ...]:
  """Indexes one window axis of (B, *size, C)."""
  return (slice(None),) * (axis + 1) + (index,)


def _pad(x: Array, pads: tuple[int, int], axis: int) -> Array:
  if pads == (0, 0):
    return x
  return jnp.pad(x, [pads if i == axis + 1 else (0, 0) for i in range(x.ndim)])


def _shifts(x: Array, k: int, window: Window, axis: int) -> list[Array]:
  """What each of the k taps along an axis sees, one array per tap."""
  stride, dilation = window.strides[axis], window.dilation[axis]
  x = _pad(x, window.pads[axis], axis)
  last = x.shape[axis + 1] - (k - 1) * dilation
  return [x[_at(axis, slice(i * dilation, i * dilation + last, stride))] for i in range(k)]


def _phases(x: Array, axis: int, stride: int, channels: int) -> Array:
  """Moves the position within each block of `stride` positions of an axis into the channels before axis `channels`."""
  shape = x.shape
  x = x.reshape(*shape[:axis], shape[axis] // stride, stride, *shape[axis + 1 :])
  x = jnp.moveaxis(x, axis + 1, channels - 1)
  return x.reshape(*x.shape[: channels - 1], -1, *x.shape[channels + 1 :])
