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
from collections.abc import Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxtyping import Array

from vu_jax.layers.convolution.conv_steps import METHODS, at, pad, step_applies
from vu_jax.layers.convolution.depthwise import shift
from vu_jax.layers.convolution.window import Window, output_size
from vu_jax.layers.product import product


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
      x = pad(x, window.pads[axis], axis)[at(axis, slice(None, None, window.strides[axis]))]
      window = window.without(axis)
  sizes, channels = kernel.shape[:-2], kernel.shape[-2:]
  if window.groups == 1 and set(sizes) == {1}:
    return product(x, kernel.reshape(channels))
  if len(sizes) == 3 and sizes[0] == 1:
    flat = Window(window.strides[1:], window.pads[1:], window.dilation[1:], window.groups)
    y = small(x.reshape(-1, *x.shape[2:]), kernel[0], flat)
    return y.reshape(*x.shape[:2], *y.shape[1:])
  if len(sizes) == 3 and sizes[1:] == (1, 1):
    flat = Window((window.strides[0], 1), (window.pads[0], (0, 0)), (window.dilation[0], 1), window.groups)
    y = small(x.reshape(*x.shape[:2], -1, x.shape[-1]), kernel[:, 0], flat)
    return y.reshape(*y.shape[:2], *x.shape[2:4], -1)
  return small(x, kernel, window)


def split(x: Array, kernel: Array, window: Window) -> Array:
  """Grouped: one convolution per group of channels."""
  parts = zip(jnp.split(x, window.groups, -1), jnp.split(kernel, window.groups, -1), strict=True)
  return jnp.concatenate([folded(part, taps, replace(window, groups=1)) for part, taps in parts], -1)


DENSE = ("", "xla")
GROUPED = ("xla", "split", "shift")


def applies(name: str, kernel_shape: Sequence[int], window: Window, channels: int) -> bool:
  """Whether a lowering can compute this convolution of an input with so many channels."""
  if window.groups > 1:
    return name in GROUPED and (name != "shift" or window.groups == channels)
  return all(step_applies(step, kernel_shape, window) for step in name.split() if step not in DENSE)


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
