"""Maximum and average pooling over video: one call each, several lowerings, one result.

XLA's gradient of a maximum over windows is five to fifteen times slower than these on the CPU, so the lowering is
chosen here, at trace time, by `choose`; all of them are in `pool_lowerings.py`.
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vu_jax.layers.convolution import pool_lowerings as ways
from vu_jax.layers.convolution import window as windows
from vu_jax.layers.convolution.pool_lowerings import Pool
from vu_jax.layers.convolution.window import Padding, Pads

_MAX = {"xla": ways.max_xla, "separable": ways.max_separable, "tiles": ways.max_tiles}
_SUM = {"xla": ways.sum_xla, "separable": ways.sum_separable, "tiles": ways.sum_tiles}


def max_pool(
  x: Float[Array, "... C"],
  window: Sequence[int],
  strides: Sequence[int] | None = None,
  padding: Padding = "VALID",
  lowering: str | None = None,
) -> Float[Array, "... C"]:
  """The maximum of every window, over the `len(window)` axes before the channels.

  Padding counts as minus infinity and never wins. A NaN in a window makes the result NaN; which position then gets the
  gradient is not defined. Else the gradient goes to the first of equal maxima in row-major order (time, height, width),
  as in XLA and torch; differentiating `jnp.maximum` would share it between them. After a ReLU ties are the rule, so
  this decides what is learnt.

  Torch's `ceil_mode=True` is a padding, see `ceil_padding`.

  Args:
    x: channels last, any leading batch axes: `(B T H W C)` for a window of 3 numbers, `(B H W C)` or `(B T H W C)`
      for 2, `(B T C)` for 1.
    window: positions along each pooled axis, 1 to 3 numbers.
    strides: positions between windows; the window itself when left out.
    padding: "SAME", "VALID", one number or one pair per axis, see `window.resolve`.
    lowering: forces a way to compute it; None takes the best for the backend. "xla" is the only one with forward-mode
      derivatives; "tiles" needs windows that neither overlap nor touch padding.

  Raises:
    ValueError: a window that does not fit or lies wholly in padding, wrong counts, or a lowering that cannot do it.
  """
  pool = _resolve(x, window, strides, padding)
  return _MAX[_named(pool, lowering)](x, pool)


def avg_pool(
  x: Float[Array, "... C"],
  window: Sequence[int],
  strides: Sequence[int] | None = None,
  padding: Padding = "VALID",
  count_padding: bool = True,
  lowering: str | None = None,
) -> Float[Array, "... C"]:
  """The mean of every window, over the `len(window)` axes before the channels; summed in float32.

  Args:
    x, window, strides, padding, lowering: as for `max_pool`; every lowering has forward-mode derivatives.
    count_padding: True divides by the size of the window, padding counted as zeros (torch's default); False divides
      by the positions that lie in the input (TensorFlow's "SAME"). With `ceil_padding`, torch never counts the
      positions that only `ceil_mode` added.

  Raises:
    ValueError: as for `max_pool`.
  """
  pool = _resolve(x, window, strides, padding)
  total = _SUM[_named(pool, lowering)](x.astype(jnp.promote_types(x.dtype, jnp.float32)), pool)
  count = np.prod(pool.window) if count_padding else _positions_inside(pool)
  return (total / count).astype(x.dtype)


def ceil_padding(
  size: Sequence[int], window: Sequence[int], strides: Sequence[int] | None = None, padding: Sequence[int] | None = None
) -> Pads:
  """The padding by which torch's `ceil_mode=True` is written: one more window where positions are left over.

  A window that would start behind the input and the padding before it is left out, as in torch. For example a map of
  7 positions under a window of 2 gets ((0, 1),).

  Args:
    size: of the input along the pooled axes, `x.shape[-1 - len(window):-1]`.
    window, strides: as for `max_pool`.
    padding: torch's own, on both sides of every axis; none when left out.
  """
  strides, padding = tuple(strides or window), tuple(padding or (0,) * len(window))
  pads = []
  for n, k, s, (low, high) in zip(size, window, strides, windows.resolve(size, window, strides, padding), strict=True):
    outputs = min(math.ceil((n + low + high - k) / s), math.ceil((n + low) / s) - 1) + 1
    pads.append((low, high + max((outputs - 1) * s + k - n - low - high, 0)))
  return tuple(pads)


def _resolve(x: Array, window: Sequence[int], strides: Sequence[int] | None, padding: Padding) -> Pool:
  if not 1 <= len(window) <= 3 or x.ndim <= len(window):
    raise ValueError(f"window {tuple(window)}: must be 1 to 3 numbers, fewer than the {x.ndim} axes of x {x.shape}")
  size, strides = x.shape[-1 - len(window) : -1], tuple(strides or window)
  pool = Pool(size, tuple(window), strides, windows.resolve(size, window, strides, padding))
  for n, k, s, outputs, (low, high) in zip(size, window, strides, pool.outputs, pool.pads, strict=True):
    if low >= k or (outputs - 1) * s >= n + low:
      raise ValueError(f"padding {(low, high)}: a window of {k} lies wholly in it, with {n} positions; pad less")
  return pool


def choose(backend: str, pool: Pool) -> str:
  """The name of the lowering that is taken. Measured on the CPU only; that XLA's own is best elsewhere is a guess."""
  return {"cpu": "tiles" if pool.tiled else "separable"}.get(backend, "xla")


def _named(pool: Pool, forced: str | None) -> str:
  if forced is None:
    return choose(jax.default_backend(), pool)
  if forced not in _MAX:
    raise ValueError(f'lowering "{forced}": must be one of {", ".join(_MAX)}, or None for the best')
  if forced == "tiles" and not pool.tiled:
    raise ValueError(f'lowering "tiles": window {pool.window} must equal strides {pool.strides}, unpadded {pool.pads}')
  return forced


def _positions_inside(pool: Pool) -> np.ndarray:
  """How many positions of every window lie in the input, with an axis for the channels."""
  per_axis = []
  for n, k, s, outputs, (low, _) in zip(pool.size, pool.window, pool.strides, pool.outputs, pool.pads, strict=True):
    start = np.arange(outputs) * s - low
    per_axis.append(np.minimum(start + k, n) - np.maximum(start, 0))
  return functools.reduce(np.multiply.outer, per_axis)[..., None]
