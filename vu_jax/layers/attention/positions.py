"""Where a token is: learned tables, sinusoids, and rotations of queries and keys.

All tables are float32 and are cast at the end.
"""

import math
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax.typing import Initializer
from jaxtyping import Array, Float, Int, Num

from vu_jax.layers.initial import flat
from vu_jax.layers.precision import Dtype

BASE = 10000.0  # longest wave over shortest wave, Vaswani et al. 2017, section 3.5
# Tables of each form, and which of the axes (t, h, w) each spans.
FORMS: dict[str, dict[str, tuple[int, ...]]] = {
  "joint": {"joint": (0, 1, 2)},
  "separable": {"space": (1, 2), "time": (0,)},
  "space": {"space": (1, 2)},
  "time": {"time": (0,)},
}


class LearnedPositions(nn.Module):
  """Adds learned positions to tokens: (B t h w D) -> (B t h w D).

  Parameters: `joint` (t h w D), or `space` (h w D) and/or `time` (t D), for the grid of the tokens that `init` saw.
  Tokens on another grid get the tables resized to theirs (`interpolate_positions`).

  Fields:
    form: "joint", one table over all positions (ViViT); "separable", space plus time (TimeSformer, MViT); "space" or
      "time" alone (the encoders of factorised ViViT; TimeSformer without time).
    table_init: of the tables. TimeSformer starts `time` at zero: use a "space" and a "time" module there.
    dtype: of the result; the sum is float32.

  Source: Arnab et al. 2021, "ViViT", section 3.1; Bertasius et al. 2021, "TimeSformer", equation 1; Fan et al. 2021,
    "MViT" (separable).
  Differs from the paper: no row for a class token, which has its own (`transformer.ClassToken`).
  """

  form: Literal["joint", "separable", "space", "time"] = "joint"
  table_init: Initializer = nn.initializers.normal(0.02)
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, tokens: Float[Array, "B t h w D"]) -> Float[Array, "B t h w D"]:
    batch, *new_grid, width = tokens.shape
    total = tokens.astype(jnp.float32)
    for name, axes in FORMS[self.form].items():
      new = [new_grid[a] for a in axes]
      table = sized_at_init(self, name, self.table_init, (*new, width))
      rows = interpolate_positions(table.reshape(-1, width), table.shape[:-1], new)
      rows = repeat_in_front(rows, batch * math.prod(new_grid[: axes[0]]))
      behind = (1,) * (2 - axes[-1])
      total += rows.reshape(batch, *new_grid[: axes[-1] + 1], *behind, width)
    return total.astype(self.dtype)


def sized_at_init(module: nn.Module, name: str, init: Initializer, shape: tuple[int, ...]) -> Float[Array, "..."]:
  """A parameter of `module` that has `shape` when it is made, and keeps it: so tables remember what they are for."""
  if module.has_variable("params", name):
    shape = module.get_variable("params", name).shape
  return module.param(name, flat(init), shape, jnp.float32)


def repeat_in_front(table: Float[Array, "N D"], times: int) -> Float[Array, "R N D"]:
  """The table, `times` times.

  As a product with ones, because its gradient is then a matrix product, too. XLA's sum over a leading axis, which the
  gradient of broadcasting is, takes 16 to 35 times as long on the CPU (2 and 8 clips of 1,568 tokens of width 768).
  """
  return jnp.einsum("r,nd->rnd", jnp.ones(times, table.dtype), table, precision="highest")


def interpolate_positions(
  table: Float[Array, "N D"], old_grid: list[int] | tuple[int, ...], new_grid: list[int] | tuple[int, ...]
) -> Float[Array, "M D"]:
  """A table of positions, flattened from `old_grid`, resized linearly to `new_grid` and flattened again.

  The grids have any equal number of axes. Positions are centres of cells and stay at their fraction of the clip;
  beyond the outermost centres the outermost value is kept. Equals torch's `interpolate(mode="linear")` and its
  bi- and trilinear forms with `align_corners=False`, and is the identity for equal grids.

  Raises:
    ValueError: the table has not one row per position of `old_grid`, or the grids differ in their number of axes.

  Differs from the paper: TimeSformer takes the nearest position.
  """
  old_grid, new_grid = tuple(old_grid), tuple(new_grid)
  if len(table) != math.prod(old_grid):
    raise ValueError(f"{len(table)} positions do not fill the grid {old_grid}: give the grid that they were made for")
  if len(old_grid) != len(new_grid):
    raise ValueError(f"a table over the grid {old_grid} cannot be resized to {new_grid}: give as many axes")
  if old_grid == new_grid:
    return table
  width = table.shape[-1]
  cells = table.astype(jnp.float32).reshape(*old_grid, width)
  cells = jax.image.resize(cells, (*new_grid, width), "linear", antialias=False)
  return cells.reshape(-1, width).astype(table.dtype)


def grid_positions(t: int, h: int, w: int) -> Int[np.ndarray, "N 3"]:
  """The coordinates (t, h, w) of the flat tokens of a grid, in order."""
  return rearrange(np.indices((t, h, w), np.int32), "dim t h w -> (t h w) dim")


def _angles(positions: Num[Array | np.ndarray, "*N axes"], pairs: int):
  """Angles (*N pairs) of `pairs` waves, shared out evenly over the axes, each axis from short waves to long."""
  shares = [len(part) for part in np.array_split(np.arange(pairs), positions.shape[-1])]
  wave = np.concatenate([np.arange(share) for share in shares])
  return positions[..., np.repeat(np.arange(len(shares)), shares)] * BASE ** (-wave / shares[0])


def _table(positions: np.ndarray, features: int) -> Float[np.ndarray, "N D"]:
  if features % 2:
    raise ValueError(f"{features} features cannot be shared out over sines and cosines: give an even number")
  angles = _angles(positions.astype(np.float64), features // 2)
  waves = np.stack([np.sin(angles), np.cos(angles)], axis=-1)
  return rearrange(waves, "n pair wave -> n (pair wave)").astype(np.float32)


def sin_cos_flat(length: int, features: int) -> Float[np.ndarray, "{length} {features}"]:
  """Sinusoids over the flat token index: entry 2 i is sin(n / 10000^(2 i / features)), entry 2 i + 1 the cosine.

  What VideoMAE adds to the tokens of a clip in the order (t h w), and to those of its decoder.

  Raises:
    ValueError: an odd number of features.

  Source: Vaswani et al. 2017, "Attention is all you need", section 3.5; Tong et al. 2022, "VideoMAE" (code).
  """
  return _table(np.arange(length)[:, None], features)


def sin_cos(t: int, h: int, w: int, features: int) -> Float[np.ndarray, "{t} {h} {w} {features}"]:
  """Sinusoids over a token grid: a third of the features each for the position in time, height and width.

  Each third is laid out as in `sin_cos_flat`. When 6 does not divide `features`, the first axes have one wave more,
  the longest.

  Raises:
    ValueError: an odd number of features.

  Source: Vaswani et al. 2017, section 3.5, along each axis as in Bardes et al. 2024, "V-JEPA" (code).
  Differs from the paper: sine and cosine of a wave are neighbours.
  """
  return rearrange(_table(grid_positions(t, h, w), features), "(t h w) d -> t h w d", t=t, h=h, w=w)


def rotary(x: Float[Array, "*N K"], positions: Num[Array | np.ndarray, "*#N axes"]) -> Float[Array, "*N K"]:
  """Rotates queries or keys by their positions, so that dot products depend on offsets only, not on positions.

  Feature i and feature i + K / 2 make a pair, which turns by position * 10000^(-wave / waves of its axis) [radians];
  pairs are shared out over the axes (t, h, w) as evenly as possible.

  Args:
    x: queries or keys with K features per head, K even, in any layout.
    positions: their coordinates along any number of axes, broadcast over x: (N 3) of `grid_positions` for heads
      before tokens (B A N K), (N 1 3) for tokens before heads (B N A K); fractions and negative numbers are fine.
      Sines of a numpy array are computed once, when traced; those of a jax array at every call.

  Raises:
    ValueError: an odd K.

  Source: Su et al. 2021, "RoFormer", equation 34, on three axes as in Assran et al. 2025, "V-JEPA 2", section 2.
  Differs from the paper: pairs are (i, i + K / 2), and all of them turn also where 6 does not divide K.
  """
  pairs, odd = divmod(x.shape[-1], 2)
  if odd:
    raise ValueError(f"heads of {x.shape[-1]} features cannot be split into pairs to rotate: give an even number")
  # Sines are slow on the CPU (1,568 positions: 5 times the rotation itself), so those that are known are constants.
  xp, precise = (np, np.float64) if isinstance(positions, np.ndarray) else (jnp, jnp.float32)
  angles = _angles(xp.asarray(positions, precise), pairs)
  cos, sin = (jnp.asarray(wave, jnp.float32) for wave in (xp.cos(angles), xp.sin(angles)))
  first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  turned = jnp.concatenate([first * cos - second * sin, first * sin + second * cos], axis=-1)
  return turned.astype(x.dtype)
