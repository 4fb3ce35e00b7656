"""Attention within the windows of a grid of space and time: the windows, and their relative position bias.

Source: Liu et al. 2021, "Video Swin Transformer", section 3.
"""

from collections.abc import Callable
from typing import TypeAlias

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Float, Int

from vu_jax.glossary import Count

Size: TypeAlias = tuple[int, int, int]


class RelativeBias(nn.Module):
  """A learned bias for each head and each offset between two tokens of a window: -> (A N N), for `attend`.

  Fields:
    window: (t, h, w) tokens; the parameter `table` is ((2t-1)(2h-1)(2w-1), heads), in the order of these axes.
    heads: A.

  Source: Liu et al. 2021, "Video Swin Transformer", section 3.2, equation 3.
  """

  window: tuple[Count, Count, Count]
  heads: Count

  @nn.compact
  def __call__(self, size: Size) -> Float[Array, "A N N"]:
    """The bias for windows of `size`, at most `window`: offsets keep their entries in smaller windows."""
    offsets = [2 * n - 1 for n in self.window]
    table = self.param("table", nn.initializers.truncated_normal(0.02), (int(np.prod(offsets)), self.heads))
    places = np.indices(size).reshape(3, -1)
    apart = places[:, :, None] - places[:, None] + np.array(self.window)[:, None, None] - 1
    return rearrange(table[np.ravel_multi_index(tuple(apart), offsets)], "n m a -> a n m")


def attend_windows(
  attention: Callable[..., Array], x: Float[Array, "B t h w D"], size: Size, shift: Size
) -> Float[Array, "B t h w E"]:
  """Applies `attention(tokens (B windows N D), mask=...)` to the tokens of each window of a grid.

  The grid is padded behind to a multiple of `size`, and rolled by `shift`, so that windows lie across the borders of
  the unshifted ones. Tokens see neither padding nor what was rolled in from the other side.

  Source: Liu et al. 2021, "Video Swin Transformer", section 3.1.
  Differs from the paper: its code lets tokens see the padding.
  """
  grid = x.shape[1:4]
  regions = _regions(grid, size, shift)
  mask = None
  if regions.any():
    parts = rearrange(jnp.asarray(regions), "(nt t) (nh h) (nw w) -> (nt nh nw) 1 (t h w)", **_sides(size))
    mask = parts[..., :, None] == parts[..., None, :]
  x = jnp.pad(x, [(0, 0), *((0, p - n) for p, n in zip(regions.shape, grid, strict=True)), (0, 0)])
  x = jnp.roll(x, [-s for s in shift], (1, 2, 3))
  pattern = "b (nt t) (nh h) (nw w) d", "b (nt nh nw) (t h w) d"
  x = attention(rearrange(x, " -> ".join(pattern), **_sides(size)), mask=mask)
  counts = dict(zip(("nt", "nh", "nw"), (p // n for p, n in zip(regions.shape, size, strict=True)), strict=True))
  x = jnp.roll(rearrange(x, " -> ".join(pattern[::-1]), **_sides(size), **counts), shift, (1, 2, 3))
  return x[:, : grid[0], : grid[1], : grid[2]]


def _sides(size: tuple[int, ...]) -> dict[str, int]:
  return dict(zip("thw", size, strict=True))


def _regions(grid: tuple[int, ...], size: Size, shift: Size) -> Int[np.ndarray, "T H W"]:
  """For each place of the padded and rolled grid, a number for what was rolled in together; -1 for padding."""
  padded = [-(-n // k) * k for n, k in zip(grid, size, strict=True)]
  places = np.indices(padded)
  regions, padding = np.zeros(padded, np.int32), np.zeros(padded, bool)
  for axis, (place, n, p, s) in enumerate(zip(places, grid, padded, shift, strict=True)):
    regions += (place >= p - s) * 2**axis
    padding |= (place + s) % p >= n
  return np.where(padding, -1, regions)
