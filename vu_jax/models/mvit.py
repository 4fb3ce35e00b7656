"""MViT: a transformer whose grid becomes coarser and whose width grows from stage to stage."""

from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

from vu_jax.glossary import Count, Fraction
from vu_jax.layers.attention.embed import PatchEmbed
from vu_jax.layers.attention.pooled_attention import Grid, PooledAttention, pooled_grid
from vu_jax.layers.attention.positions import LearnedPositions
from vu_jax.layers.attention.transformer import ClassToken, Mlp
from vu_jax.layers.convolution.pool import max_pool
from vu_jax.layers.dense import Dense
from vu_jax.layers.drop import Dropout, DropPath, depth_rates
from vu_jax.layers.norm import layer_norm
from vu_jax.layers.precision import Dtype

TINY = {"width": 4, "stages": (1, 1), "kv_strides": (1, 2, 2)}

PRESETS: dict[str, dict[str, Any]] = {
  "mvit_v1_b": {"version": 1, "width": 96, "stages": (1, 2, 11, 2)},
  "mvit_v2_s": {"version": 2, "width": 96, "stages": (1, 2, 11, 2)},
}


class Model(nn.Module):
  """clip -> overlapping patches -> stages of blocks with pooled attention -> class token.

    video (B T H W 3) --patches--> (B T/2 H/4 W/4 D) --stage--> ... --stage, norm--> tokens (B t h w D'), pooled (B D')

  Every stage but the first halves height and width and doubles channels and heads. Queries are pooled by the stage's
  stride, keys and values by `kv_strides` in the first stage and by half as much in every further one, so that the grid
  of keys stays as coarse as it is. A clip of another size than the one that `init` saw gets positions that are
  interpolated linearly, as in the authors' code.

  Source: Fan et al. 2021, "Multiscale vision transformers", section 3 and table 2 (version 1); Li et al. 2022,
  "MViTv2", section 4.1 and table 1 (version 2).

  Fields:
    version: 1 has separable positions in space and time and widens in the MLP at the end of a stage. 2 has relative
      positions, widens in the attention at the start of a stage, and adds pooled queries to its result.
    width: channels of the first stage.
    heads: of the first stage; must divide the width.
    stages: blocks of each stage.
    patch, strides: of the patches (frames, rows, columns); padded by half of `patch` on both sides.
    kv_strides: see above.
    dropout: in training, of what every branch adds and of the middle of the MLPs.
    drop_path: probability that a clip skips a branch of the last block in training; it grows linearly from 0.
    remat: compute blocks again in the backward pass, which saves memory and costs time.
    dtype: of the computation; parameters are float32.
  """

  version: Literal[1, 2] = 2
  width: Count = 96
  heads: Count = 1
  stages: tuple[Count, ...] = (1, 2, 11, 2)
  patch: tuple[Count, Count, Count] = (3, 7, 7)
  strides: tuple[Count, Count, Count] = (2, 4, 4)
  kv_strides: tuple[Count, Count, Count] = (1, 8, 8)
  dropout: Fraction = 0.0
  drop_path: Fraction = 0.0
  remat: bool = False
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, video: Float[Array, "B T H W C"], *, train: bool) -> dict[str, Array]:
    x, grid = self._embed(video)
    rates = iter(depth_rates(self.drop_path, sum(self.stages)))

    def call(block: nn.Module, x: Array) -> Array:
      return block(x, train=train)

    number = 0
    for stage, depth in enumerate(self.stages):
      for i in range(depth):
        strides = (1, 2, 2) if stage and i == 0 else (1, 1, 1)
        block = self._block(stage, last=i == depth - 1)(grid, strides, drop_path=next(rates), name=f"block{number}")
        x = (nn.remat(call) if self.remat else call)(block, x)
        grid, number = pooled_grid(grid, strides), number + 1
    x = layer_norm(dtype=self.dtype)(name="norm")(x)
    return {"tokens": x[:, 1:].reshape(-1, *grid, x.shape[-1]), "pooled": x[:, 0]}

  def _embed(self, video: Array) -> tuple[Array, Grid]:
    padding = [n // 2 for n in self.patch]
    embed = PatchEmbed(self.width, self.patch, self.strides, padding, dtype=self.dtype, name="embed")
    x = embed(video)
    if self.version == 1:
      x = LearnedPositions("separable", dtype=self.dtype, name="positions")(x)
    tokens = rearrange(x, "b t h w d -> b (t h w) d")
    t, h, w = x.shape[1:4]
    return ClassToken(self.version == 1, self.dtype, name="class_token")(tokens), (t, h, w)

  @nn.nowrap
  def _block(self, stage: int, last: bool) -> Any:
    """Makes a block of the stage, given its grid and the strides of its queries."""
    width, (t, h, w) = self.width << stage, (max(s >> stage, 1) for s in self.kv_strides)
    widens = self.version == 1 and last and stage < len(self.stages) - 1
    return partial(
      PooledBlock,
      self.heads << stage,
      width,
      2 * width if widens else width,
      kv_strides=(t, h, w),
      second=self.version == 2,
      dropout=self.dropout,
      dtype=self.dtype,
    )


class PooledBlock(nn.Module):
  """x + attention(norm(x)), then x + mlp(norm(x)), on another grid and width: (B 1+N C) -> (B 1+N' D).

  The residual path is pooled by the maximum where queries have a stride, and projected (`widen`) from the normed
  tokens where a branch widens.

  Fields: as in `PooledAttention`; `width` of the attention, `features` D of the MLP.
  """

  heads: Count
  width: Count
  features: Count
  grid: Grid
  q_strides: Grid
  kv_strides: Grid
  second: bool
  dropout: Fraction = 0.0
  drop_path: Fraction = 0.0
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "B N C"], *, train: bool) -> Float[Array, "B M D"]:
    options = self.grid, self.q_strides, self.kv_strides, self.second, self.dtype
    attention = PooledAttention(self.heads, self.width, *options, name="attention")
    mlp = Mlp(4 * self.width, self.features, dropout=self.dropout, dtype=self.dtype, name="mlp")
    normed = layer_norm(dtype=self.dtype)(name="attention_norm")(x)
    x = max_pool_tokens(self._widened(x, normed, self.width), self.grid, self.q_strides)
    x = x + self._dropped(attention(normed), train)
    normed = layer_norm(dtype=self.dtype)(name="mlp_norm")(x)
    return self._widened(x, normed, self.features) + self._dropped(mlp(normed, train=train), train)

  def _widened(self, x: Array, normed: Array, width: int) -> Array:
    return x if x.shape[-1] == width else Dense(width, dtype=self.dtype, name="widen")(normed)

  def _dropped(self, y: Array, train: bool) -> Array:
    y = Dropout(self.dropout, deterministic=not train)(y)
    return DropPath(self.drop_path)(y, train=train)


def max_pool_tokens(x: Float[Array, "B N D"], grid: Grid, strides: Grid) -> Float[Array, "B M D"]:
  """Maxima over windows of stride + 1 along strided axes; the class token in front stays, and all without strides."""
  if max(strides) == 1:
    return x
  window = [s + 1 if s > 1 else 1 for s in strides]
  volume = rearrange(x[:, 1:], "b (t h w) d -> b t h w d", **dict(zip("thw", grid, strict=True)))
  volume = max_pool(volume, window, strides, [n // 2 for n in window])
  return jnp.concatenate([x[:, :1], rearrange(volume, "b t h w d -> b (t h w) d")], axis=1)
