"""Convolutions over video: one function per rank, several lowerings, one result.

All compute what `jax.lax.conv_general_dilated` does (cross-correlation), channels last. How they do it is chosen when
they are traced, by the table in `conv_table.py`.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vu_jax.layers.convolution import window as windows
from vu_jax.layers.convolution.conv_lowerings import applies, lower
from vu_jax.layers.convolution.conv_table import Plan, choose, throughout
from vu_jax.layers.convolution.window import Padding, Window


def conv3d(
  x: Float[Array, "B T H W C"],
  kernel: Float[Array, "kt kh kw Cg D"],
  strides: Sequence[int] = (1, 1, 1),
  padding: Padding = "SAME",
  dilation: Sequence[int] = (1, 1, 1),
  groups: int = 1,
  lowering: str | None = None,
) -> Float[Array, "B t h w D"]:
  """3-D convolution: full, spatial (1 k k), temporal (k 1 1), pointwise, grouped or depthwise (groups = C).

  Args:
    x: the video's features.
    kernel: the window's taps, for each C / groups input and D output channels.
    strides: positions between outputs in time, height, width.
    padding: "SAME", "VALID", or per axis one number or a pair (before, after).
    dilation: positions between taps.
    groups: blocks of channels that do not see each other; divides C and D.
    lowering: forces a way to compute it (see `conv_lowerings`), for tests and benchmarks.

  Returns:
    In the dtype of `x`. Sums are accumulated in float32. Reverse-mode gradients only, unless `lowering` is given.

  Raises:
    ValueError: channels and groups that do not fit, a wrong window (see `window.resolve`), or a lowering that cannot
      compute this.
  """
  return _conv(x, kernel, strides, padding, dilation, groups, lowering)


def conv2d(
  x: Float[Array, "B H W C"],
  kernel: Float[Array, "kh kw Cg D"],
  strides: Sequence[int] = (1, 1),
  padding: Padding = "SAME",
  dilation: Sequence[int] = (1, 1),
  groups: int = 1,
  lowering: str | None = None,
) -> Float[Array, "B h w D"]:
  """2-D convolution; arguments, result and errors as in `conv3d`, without time."""
  return _conv(x, kernel, strides, padding, dilation, groups, lowering)


def conv_transpose3d(
  x: Float[Array, "B t h w C"],
  kernel: Float[Array, "kt kh kw C D"],
  strides: Sequence[int] = (1, 1, 1),
  padding: Padding = "SAME",
  lowering: str | None = None,
) -> Float[Array, "B T H W D"]:
  """Transposed 3-D convolution, for decoders: each input position adds its taps to the output.

  It is the input gradient of the `conv3d` with the same window (Dumoulin & Visin 2016, section 4).

  Args:
    padding: "SAME" gives size x stride outputs; (before, after) crops the full (size - 1) stride + window outputs, as
      torch's `padding` does.
  """
  return _conv_transpose(x, kernel, strides, padding, lowering)


def conv_transpose2d(
  x: Float[Array, "B h w C"],
  kernel: Float[Array, "kh kw C D"],
  strides: Sequence[int] = (1, 1),
  padding: Padding = "SAME",
  lowering: str | None = None,
) -> Float[Array, "B H W D"]:
  """Transposed 2-D convolution; as `conv_transpose3d`, without time."""
  return _conv_transpose(x, kernel, strides, padding, lowering)


def _conv(x, kernel, strides, padding, dilation, groups, lowering):
  _check_channels(x.shape[-1], kernel.shape, groups)
  pads = windows.resolve(x.shape[1:-1], kernel.shape[:-2], strides, padding, dilation)
  window = Window(tuple(strides), pads, tuple(dilation), groups)
  plan = _plan(lowering, x.shape, kernel.shape, window)
  wide = _working_dtype(x.dtype)
  return _planned(x.astype(wide), kernel.astype(wide), window, plan).astype(x.dtype)


def _conv_transpose(x, kernel, strides, padding, lowering):
  _check_channels(x.shape[-1], kernel.shape, 1)
  sizes, ones = kernel.shape[:-2], (1,) * len(strides)
  small, full = x.shape[1:-1], [(n - 1) * s + k for n, s, k in zip(x.shape[1:-1], strides, kernel.shape, strict=False)]
  pads = windows.resolve(full, sizes, strides, _crop(padding, full, small, strides), ones)
  window = Window(tuple(strides), pads, ones)
  shape = (x.shape[0], *(n - sum(p) for n, p in zip(full, pads, strict=True)), kernel.shape[-1])
  wide = _working_dtype(x.dtype)
  turned = jnp.swapaxes(kernel, -1, -2).astype(wide)
  plan = _plan(lowering, shape, turned.shape, window)
  return _adjoint(x.astype(wide), turned, shape, window, plan).astype(x.dtype)


def _crop(padding: Padding, full: Sequence[int], small: Sequence[int], strides: Sequence[int]) -> Padding:
  """Positions cut from both ends of the full output."""
  if padding == "VALID":
    return ((0, 0),) * len(full)
  if padding != "SAME":
    return padding
  extra = [n - m * s for n, m, s in zip(full, small, strides, strict=True)]
  if min(extra) < 0:
    raise ValueError(f'padding "SAME": strides {tuple(strides)} are larger than the window, give the padding per axis')
  return tuple((e // 2, e - e // 2) for e in extra)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _mixed(x: Array, kernel: Array, window: Window, plan: Plan) -> Array:
  return lower(x, kernel, window, plan.forward)


def _mixed_backward(window, plan, saved, dy):
  x, kernel = saved
  pull_x = jax.vjp(lambda x: lower(x, kernel, window, plan.input_gradient), x)[1]
  pull_kernel = jax.vjp(lambda kernel: lower(x, kernel, window, plan.kernel_gradient), kernel)[1]
  return *pull_x(dy), *pull_kernel(dy)


_mixed.defvjp(lambda x, kernel, *static: (_mixed(x, kernel, *static), (x, kernel)), _mixed_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _adjoint(x: Array, kernel: Array, shape: tuple[int, ...], window: Window, plan: Plan) -> Array:
  """The input gradient of the convolution of an input of `shape`, for the output gradient x."""
  pull = jax.vjp(lambda y: lower(y, kernel, window, plan.input_gradient), jnp.zeros(shape, x.dtype))[1]
  return pull(x)[0]


def _adjoint_backward(shape, window, plan, saved, dy):
  x, kernel = saved
  pull = jax.vjp(lambda kernel: lower(dy, kernel, window, plan.kernel_gradient), kernel)[1]
  return lower(dy, kernel, window, plan.forward), pull(x)[0]


_adjoint.defvjp(lambda x, kernel, *static: (_adjoint(x, kernel, *static), (x, kernel)), _adjoint_backward)


def _planned(x: Array, kernel: Array, window: Window, plan: Plan) -> Array:
  if plan == throughout(plan.forward):
    return lower(x, kernel, window, plan.forward)
  return _mixed(x, kernel, window, plan)


def _plan(lowering: str | None, shape: Sequence[int], kernel_shape: Sequence[int], window: Window) -> Plan:
  if lowering is None:
    return choose(jax.default_backend(), shape, kernel_shape, window)
  if not applies(lowering, kernel_shape, window, shape[-1]):
    raise ValueError(f'lowering "{lowering}" cannot compute a {tuple(kernel_shape)} kernel with {window}')
  return throughout(lowering)


def _working_dtype(dtype: jnp.dtype) -> jnp.dtype:
  """The CPU has no bfloat16 arithmetic: it computes in float32 and rounds once."""
  return jnp.dtype("float32") if dtype == jnp.bfloat16 and jax.default_backend() == "cpu" else dtype


def _check_channels(channels: int, kernel_shape: Sequence[int], groups: int) -> None:
  if groups < 1 or channels % groups or kernel_shape[-1] % groups:
    raise ValueError(f"groups = {groups} must divide the {channels} input and the {kernel_shape[-1]} output channels")
  if kernel_shape[-2] * groups != channels:
    raise ValueError(
      f"the input has {channels} channels, the kernel {tuple(kernel_shape)} takes {kernel_shape[-2] * groups}"
    )
