"""Attention whose queries, keys and values are pooled over the grid, with a class token in front.

Source: Fan et al. 2021, "Multiscale vision transformers" (MViT), section 3.1; Li et al. 2022, "MViTv2", section 4.1.
"""

import math

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Float, Int

from vu_jax.glossary import Count
from vu_jax.layers.attention.attention import attend
from vu_jax.layers.attention.positions import interpolate_positions, sized_at_init
from vu_jax.layers.convolution.conv import conv3d
from vu_jax.layers.dense import Dense
from vu_jax.layers.initial import KERNEL
from vu_jax.layers.norm import layer_norm
from vu_jax.layers.precision import Dtype, cast

Grid = tuple[int, int, int]


def pooled_grid(grid: Grid, strides: Grid) -> Grid:
  """What remains of a grid: sizes divided by the strides, rounded up."""
  t, h, w = (-(-n // s) for n, s in zip(grid, strides, strict=True))
  return t, h, w


class PoolKernel(nn.Module):
  """The parameter `kernel` (3 3 3 1 d) of a pooling, a window for each feature of a head, once for every head."""

  heads: Count
  width: Count

  @nn.compact
  def __call__(self) -> Float[Array, "3 3 3 1 D"]:
    return jnp.tile(self.param("kernel", KERNEL, (3, 3, 3, 1, self.width), jnp.float32), self.heads)


class RelativePositions(nn.Module):
  """Scores by the distance of query and key in time, rows and columns, as features that are appended to both.

  The score of query q and key k gains q . (R_t[dt] + R_h[dh] + R_w[dw]). Each sum over a query is worked out once per
  axis, t + h + w numbers of the keys' grid, and every key picks three of them by a row of zeros and ones: so no bias
  of queries x keys is ever stored, and every lowering of `attend` computes the rest. On the CPU it takes half the time
  of a bias and a third of its memory (first block of MViTv2-S: 134 ms and 27 MiB against 278 and 94).

  Parameters: `rel_pos_t`, `rel_pos_h`, `rel_pos_w`, (distances d) for the grid that `init` saw; they are interpolated
  for others.

  Source: Li et al. 2022, "MViTv2", section 4.1, equations 4 and 5.
  """

  @nn.compact
  def __call__(
    self, q: Float[Array, "B N A d"], k: Float[Array, "B M A d"], q_grid: Grid, k_grid: Grid
  ) -> tuple[Float[Array, "B N A e"], Float[Array, "B M A e"]]:
    """Features whose dot products are the gains; those of class tokens are zero."""
    grid = rearrange(q[:, 1:], "b (t h w) a d -> b t h w a d", **dict(zip("thw", q_grid, strict=True)))
    longest = (max(q_grid[0], k_grid[0]), *[max(*q_grid[1:], *k_grid[1:])] * 2)
    gains = []
    for axis, n, m, most in zip("thw", q_grid, k_grid, longest, strict=True):
      table = sized_at_init(self, f"rel_pos_{axis}", nn.initializers.normal(0.02), (2 * most - 1, q.shape[-1]))
      rows = interpolate_positions(table, table.shape[:1], (2 * max(n, m) - 1,))
      apart = rows[distances(n, m)].astype(q.dtype)
      gains.append(jnp.einsum(f"bthwad,{axis}kd->bthwak", grid, apart))
    of_q = rearrange(jnp.concatenate(gains, axis=-1), "b t h w a e -> b (t h w) a e")
    places = np.indices(k_grid).reshape(3, -1)
    picks = np.concatenate([np.eye(m)[place] for m, place in zip(k_grid, places, strict=True)], axis=-1)
    of_k = jnp.pad(jnp.asarray(picks, q.dtype), ((1, 0), (0, 0)))[:, None]
    return jnp.pad(of_q, ((0, 0), (1, 0), (0, 0), (0, 0))), jnp.broadcast_to(of_k, (*k.shape[:3], of_k.shape[-1]))


def distances(queries: int, keys: int) -> Int[np.ndarray, "Q K"]:
  """Rows of a table of 2 max(queries, keys) - 1 distances; the coarser of both is spread over the finer one.

  Rounded down in float32, as published weights were trained.
  """
  q, k = np.arange(queries, dtype=np.float32), np.arange(keys, dtype=np.float32)
  q_step, k_step = np.float32(max(keys / queries, 1)), np.float32(max(queries / keys, 1))
  return (q[:, None] * q_step - (k + 1 - keys) * k_step).astype(np.int32)


class PooledAttention(nn.Module):
  """Self-attention with pooled queries, keys and values: (B 1+N C) -> (B 1+N' features).

  A pooling is a depthwise convolution over the grid, then a layer norm; the class token passes by the convolution.
  Parameters: `qkv`, `out`; `pool_q`, `norm_q` and so on for k and v; of the second version `positions`.

  Fields:
    heads: A; must divide `features`.
    features: D of the result.
    grid: (t, h, w) of the N tokens.
    q_strides, kv_strides: of the pooling; N' fills `pooled_grid(grid, q_strides)`.
    second: MViTv2: queries are pooled also where their stride is 1 and are added to the result, and there are relative
      positions.
    dtype: of the computation; parameters are float32.

  Raises:
    ValueError: heads that do not divide the features.

  Source: see the top of the file; where the class token takes part follows the authors' code.
  """

  heads: Count
  features: Count
  grid: Grid
  q_strides: Grid = (1, 1, 1)
  kv_strides: Grid = (1, 1, 1)
  second: bool = True
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "B N C"]) -> Float[Array, "B M D"]:
    if self.features % self.heads:
      raise ValueError(f"{self.heads} heads do not divide {self.features} features: change one of them")
    qkv = Dense(3 * self.features, dtype=self.dtype, name="qkv")(x)
    qkv = rearrange(qkv, "b n (three a d) -> b n three a d", three=3, a=self.heads)
    q, kv = qkv[:, :, :1], qkv[:, :, 1:]
    pools = self.second or math.prod(self.q_strides) > 1
    (q,) = self._pooled("q", q, self.q_strides) if pools else (q[:, :, 0],)
    k, v = self._pooled("kv", kv, self.kv_strides)
    y = self._with_positions(q, k, v) if self.second else attend(q, k, v)
    return Dense(self.features, dtype=self.dtype, name="out")(rearrange(y, "b n a d -> b n (a d)"))

  def _pooled(self, parts: str, x: Float[Array, "B N P A d"], strides: Grid) -> list[Float[Array, "B M A d"]]:
    """Each part pooled by its own kernel and norm, in one convolution: "q", or "kv"."""
    t, h, w = self.grid
    kernels = [PoolKernel(self.heads, x.shape[-1], name=f"pool_{part}")() for part in parts]
    (kernel,) = cast(self.dtype, jnp.concatenate(kernels, axis=-1))
    volume = rearrange(x[:, 1:], "b (t h w) p a d -> b t h w (p a d)", t=t, h=h, w=w)
    volume = conv3d(volume, kernel, strides, (1, 1, 1), groups=volume.shape[-1])
    pooled = rearrange(volume, "b t h w (p a d) -> p b (t h w) a d", p=len(parts), a=self.heads)
    norm = layer_norm(dtype=self.dtype)
    return [
      norm(name=f"norm_{part}")(jnp.concatenate([x[:, :1, i], pooled[i]], axis=1)) for i, part in enumerate(parts)
    ]

  def _with_positions(self, q: Array, k: Array, v: Array) -> Array:
    width, grids = q.shape[-1], [pooled_grid(self.grid, s) for s in (self.q_strides, self.kv_strides)]
    of_q, of_k = RelativePositions(name="positions")(q, k, *grids)
    # Scores are scaled, gains are not.
    wide = jnp.concatenate([q, of_q * width**0.5], axis=-1), jnp.concatenate([k, of_k], axis=-1), v
    # cuDNN wants equal widths that 8 divides.
    to = -(-wide[0].shape[-1] // 8) * 8
    y = attend(*(jnp.pad(y, ((0, 0),) * 3 + ((0, to - y.shape[-1]),)) for y in wide), scale=width**-0.5)[..., :width]
    return y + jnp.pad(q[:, 1:], ((0, 0), (1, 0), (0, 0), (0, 0)))
