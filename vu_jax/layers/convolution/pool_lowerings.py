"""The ways in which `pool.py` computes maxima and sums over windows; values and gradients of all of them agree.

"xla"        one `reduce_window` over all axes.
"separable"  one axis after the other: k + k + k instead of k x k x k positions per output.
"tiles"      for windows that neither overlap nor touch padding: every position is read once, in one loop.

How "separable" and "tiles" know which position won, so that the gradient is a sum and not a scatter: number the
positions of the input with the window as period, ((t mod kt) kh + h mod kh) kw + w mod kw. Wherever a window lies, it
holds every number once. So one byte per output, the number of its maximum, names the position, and

  dx[p] = sum over the windows o that cover p of  dy[o] if number[o] == number[p] else 0.

The numbers travel with the values through the separable maximum. Taking the first of equals along the width, then
the height, then time is taking the first in row-major order.
"""

import functools
import itertools
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange, reduce
from jax import lax
from jaxtyping import Array

from vu_jax.layers.convolution.window import Pads, output_size

# By number of axes from this one on: a vector along it, to be broadcast over those behind and the channels.
_ALONG = {1: "n -> n 1", 2: "n -> n 1 1", 3: "n -> n 1 1 1"}
# By number of pooled axes: cells of one stride each, apart and merged.
_APART = {1: "... w c -> ... w 1 c", 2: "... h w c -> ... h 1 w 1 c", 3: "... t h w c -> ... t 1 h 1 w 1 c"}
_MERGE = {
  1: "... w k c -> ... (w k) c",
  2: "... h j w k c -> ... (h j) (w k) c",
  3: "... t i h j w k c -> ... (t i) (h j) (w k) c",
}
_TILES = {
  1: "... (w k) c -> ... w c",
  2: "... (h j) (w k) c -> ... h w c",
  3: "... (t i) (h j) (w k) c -> ... t h w c",
}


@dataclass(frozen=True)
class Pool:
  """What is pooled, one number per pooled axis; all of it static."""

  size: tuple[int, ...]
  window: tuple[int, ...]
  strides: tuple[int, ...]
  pads: Pads

  @property
  def outputs(self) -> tuple[int, ...]:
    return output_size(self.size, self.window, self.strides, self.pads)

  @property
  def tiled(self) -> bool:
    """Windows neither overlap nor touch padding."""
    return self.window == self.strides and not any(map(any, self.pads))


def sum_xla(x: Array, pool: Pool) -> Array:
  """Sums of windows."""
  return _reduce_window(x, 0, lax.add, pool)


def sum_separable(x: Array, pool: Pool) -> Array:
  """Sums of windows, one axis after the other."""
  for one_axis in _axis_by_axis(pool):
    x = _reduce_window(x, 0, lax.add, one_axis)
  return x


def sum_tiles(x: Array, pool: Pool) -> Array:
  """Sums of windows that tile the input."""
  x = _slice(x, (0,) * len(pool.size), [n * k for n, k in zip(pool.outputs, pool.window, strict=True)])
  return reduce(x, _TILES[len(pool.size)], "sum", **dict(zip("kji", reversed(pool.window), strict=False)))


def max_xla(x: Array, pool: Pool) -> Array:
  """Maxima of windows."""
  return _reduce_window(x, -np.inf, lax.max, pool)


def max_separable(x: Array, pool: Pool) -> Array:
  """Maxima of windows, one axis after the other."""
  return _max(x, pool, _values_separable, _numbered_separable)


def max_tiles(x: Array, pool: Pool) -> Array:
  """Maxima of windows that tile the input."""
  return _max(x, pool, _values_tiles, _numbered_tiles)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _max(x: Array, pool: Pool, values: Callable, numbered: Callable) -> Array:
  return values(x, pool)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _max_numbered(x: Array, pool: Pool, numbered: Callable) -> tuple[Array, Array]:
  # Has a gradient of its own because second derivatives differentiate the forward pass of the first.
  return numbered(x, pool)


def _forward(x, pool, values, numbered):
  return _max_numbered(x, pool, numbered)


def _backward(pool, values, numbered, number, dy):
  return (_to_first(dy, number, pool),)


def _forward_numbered(x, pool, numbered):
  y, number = _max_numbered(x, pool, numbered)
  return (y, number), number


def _backward_numbered(pool, numbered, number, cotangents):
  return (_to_first(cotangents[0], number, pool),)


_max.defvjp(_forward, _backward)
_max_numbered.defvjp(_forward_numbered, _backward_numbered)


def _values_separable(x: Array, pool: Pool) -> Array:
  y = _wide(x)
  for one_axis in _axis_by_axis(pool):
    y = _reduce_window(y, -np.inf, lax.max, one_axis)
  return y.astype(x.dtype)


def _numbered_separable(x: Array, pool: Pool) -> tuple[Array, Array]:
  nowhere = np.iinfo(_number_dtype(pool)).max
  per_axis = [_numbers(np.arange(n), pool, axis) for axis, n in enumerate(pool.size)]
  number = functools.reduce(operator.add, [rearrange(v, _ALONG[len(per_axis) - i]) for i, v in enumerate(per_axis)])
  number = jnp.broadcast_to(number, x.shape)

  def first(a, b):
    keep = ((a[0] >= b[0]) | (a[0] != a[0])) & (a[1] != nowhere)  # any position wins over padding, even minus infinity
    return jnp.where(keep, a[0], b[0]), jnp.where(keep, a[1], b[1])

  y = _wide(x)
  inits = (np.array(-np.inf, y.dtype), np.array(nowhere, number.dtype))
  for one_axis in _axis_by_axis(pool):
    y, number = lax.reduce_window((y, number), inits, first, *_all_axes(y.ndim, one_axis))
  return y.astype(x.dtype), number


def _values_tiles(x: Array, pool: Pool) -> Array:
  return functools.reduce(jnp.maximum, _taps(x, pool))


def _numbered_tiles(x: Array, pool: Pool) -> tuple[Array, Array]:
  taps = _taps(x, pool)
  y = functools.reduce(jnp.maximum, taps)
  number = jnp.full(y.shape, len(taps) - 1, _number_dtype(pool))
  for i, tap in reversed(list(enumerate(taps[:-1]))):
    number = jnp.where(tap == y, jnp.asarray(i, number.dtype), number)
  return y, number


def _taps(x: Array, pool: Pool) -> list[Array]:
  """The first, second, ... position of every window, row-major."""
  ends = [(n - 1) * s + 1 for n, s in zip(pool.outputs, pool.strides, strict=True)]
  return [_slice(x, start, ends, pool.strides) for start in itertools.product(*map(range, pool.window))]


def _to_first(dy: Array, number: Array, pool: Pool) -> Array:
  """The gradient: position p = q stride + r, counted with the padding, is covered by the windows q, q - 1, ..."""
  reach = [math.ceil(k / s) for k, s in zip(pool.window, pool.strides, strict=True)]
  cells = [math.ceil((n + lo) / s) for n, s, (lo, _) in zip(pool.size, pool.strides, pool.pads, strict=True)]
  pads = tuple((m - 1, q - n) for m, q, n in zip(reach, cells, pool.outputs, strict=True))
  dtype, dy, number = dy.dtype, _pad(_wide(dy), pads), _pad(number, pads)
  own, rest = _lattice(pool, cells)
  terms = []
  for back in itertools.product(*map(range, reach)):
    start = [m - 1 - b for m, b in zip(reach, back, strict=True)]
    there, dy_there = (rearrange(_slice(v, start, cells), _APART[len(cells)]) for v in (number, dy))
    wins = there == own
    for b, r, s, k in zip(back, rest, pool.strides, pool.window, strict=True):
      wins = wins & (r + b * s < k) if (b + 1) * s > k else wins  # the window ends before the cell does
    terms.append(jnp.where(wins, dy_there, 0))
  dx = rearrange(functools.reduce(operator.add, terms).astype(dtype), _MERGE[len(cells)])
  return _slice(dx, [lo for lo, _ in pool.pads], pool.size)


def _lattice(pool: Pool, cells: Sequence[int]) -> tuple[Array, list[np.ndarray]]:
  """Numbers of positions, and per axis the rests by the stride, on axes (cell, rest, cell, rest, ..., channels)."""
  own, rest = [], []
  for axis, (q, s, (lo, _)) in enumerate(zip(cells, pool.strides, pool.pads, strict=True)):
    behind = (1,) * (2 * (len(cells) - axis) - 1)
    own.append(_numbers(np.arange(q * s) - lo, pool, axis).reshape(q, s, *behind))
    rest.append(np.arange(s).reshape(s, *behind))
  return functools.reduce(operator.add, own), rest


def _numbers(position: np.ndarray, pool: Pool, axis: int) -> Array:
  """What the positions along one axis contribute to their numbers."""
  return jnp.asarray(position % pool.window[axis] * math.prod(pool.window[axis + 1 :]), _number_dtype(pool))


def _number_dtype(pool: Pool) -> np.dtype:
  return np.min_scalar_type(math.prod(pool.window))  # its largest number stays free, for "nowhere"


def _wide(x: Array) -> Array:
  # Gradients must be summed in float32; maxima need not, but XLA's windows of bfloat16 are slow on the CPU.
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _pad(x: Array, pads: tuple[tuple[int, int], ...]) -> Array:
  # By a window of one position instead of `lax.pad`: XLA would fuse a pad, and all that x is computed from, into every
  # one of the slices taken from it, and compute it again for each.
  ones = (1,) * len(pads)
  return _reduce_window(x, 0, lax.add, Pool(ones, ones, ones, pads)) if any(map(any, pads)) else x


def _axis_by_axis(pool: Pool) -> Iterator[Pool]:
  """Pools of one axis each, the last axis first, which together are the pool."""
  n = len(pool.size)
  for axis in reversed(range(n)):
    if (pool.window[axis], pool.strides[axis]) != (1, 1):
      window, strides, pads = [1] * n, [1] * n, [(0, 0)] * n
      window[axis], strides[axis], pads[axis] = pool.window[axis], pool.strides[axis], pool.pads[axis]
      yield Pool(pool.size, tuple(window), tuple(strides), tuple(pads))


def _reduce_window(x: Array, init: float, computation: Callable, pool: Pool) -> Array:
  return lax.reduce_window(x, np.array(init, x.dtype), computation, *_all_axes(x.ndim, pool))


def _all_axes(ndim: int, pool: Pool) -> tuple:
  """Window, strides and pads with entries for batch and channels."""
  before = ndim - 1 - len(pool.size)
  ones = (1,) * before
  return (*ones, *pool.window, 1), (*ones, *pool.strides, 1), (*((0, 0),) * before, *pool.pads, (0, 0))


def _slice(x: Array, start: Sequence[int], size: Sequence[int], strides: Sequence[int] | None = None) -> Array:
  """`size` positions from `start` on, along the pooled axes, every `strides`-th."""
  steps = strides or (1,) * len(size)
  return x[(..., *(slice(a, a + n, s) for a, n, s in zip(start, size, steps, strict=True)), slice(None))]
