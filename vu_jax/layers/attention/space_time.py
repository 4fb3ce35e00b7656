"""Attention over video: the ways to lay it over a grid of space and time.

Class tokens: the grids here have none; see `multi_head`.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

from vu_jax.glossary import Count, CountOrZero, Fraction
from vu_jax.layers.attention.attention import Lowering, attend
from vu_jax.layers.attention.multi_head import MultiHeadAttention
from vu_jax.layers.attention.window_attention import RelativeBias, attend_windows
from vu_jax.layers.precision import Dtype

Form: TypeAlias = Literal["joint", "divided", "axial", "factorised", "windowed"]
Axis: TypeAlias = Literal["time", "height", "width", "space", "joint"]
# How a grid (b t h w) becomes rows of tokens: all but the last are rows.
ROWS: dict[Axis, str] = {
  "time": "b h w t",
  "height": "b t w h",
  "width": "b t h w",
  "space": "b t (h w)",
  "joint": "b (t h w)",
}


def attend_over(axis: Axis, attention: Callable[..., Array], *grids: Float[Array, "B t h w *D"]) -> Array:
  """Applies `attention`, a layer on (... N D) or a function of q, k, v (... N A d), to the tokens along an axis.

  "time" are the tokens at one place, "space" those of one frame, "joint" all; "height" and "width" are columns and
  lines of a frame. The grid (B t h w ...) is put together again.
  """
  t, h, w = grids[0].shape[1:4]
  rows = attention(*(rearrange(x, f"b t h w ... -> {ROWS[axis]} ...") for x in grids))
  return rearrange(rows, f"{ROWS[axis]} ... -> b t h w ...", t=t, h=h, w=w)


attend_time = partial(attend_over, "time")
attend_space = partial(attend_over, "space")


def attend_factorised(
  q: Float[Array, "B t h w A d"],
  k: Float[Array, "B t h w A d"],
  v: Float[Array, "B t h w A d"],
  *,
  causal: bool = False,
  dropout: float = 0.0,
  dropout_key: Array | None = None,
  lowering: Lowering | None = None,
) -> Float[Array, "B t h w A d"]:
  """The first half of the heads attends over space, the second over time.

  Raises:
    ValueError: an odd number of heads.

  Source: Arnab et al. 2021, "ViViT", section 3.3, model 4 (factorised dot-product attention).
  """
  heads = q.shape[-2]
  if heads % 2:
    raise ValueError(f"factorised attention gives half of the heads to time: {heads} heads do not divide by 2")
  keys = (None, None) if dropout_key is None else jax.random.split(dropout_key)
  options = partial(attend, dropout=dropout, lowering=lowering)
  halves = zip(*(jnp.split(x, 2, axis=-2) for x in (q, k, v)), strict=True)
  space = attend_space(partial(options, dropout_key=keys[0]), *next(halves))
  time = attend_time(partial(options, dropout_key=keys[1], causal=causal), *next(halves))
  return jnp.concatenate([space, time], axis=-2)


class SpaceTimeAttention(nn.Module):
  """Multi-head attention over a token grid in one of the forms of the literature: (B t h w D) -> (B t h w D).

  Fields:
    form:
      "joint": every token sees every token; parameters `joint` (ViViT model 1, VideoMAE).
      "divided": over `time`, then over `space` (TimeSformer).
      "axial": over `time`, `height` and `width` in turn (Ho et al. 2019, "Axial Attention").
      "factorised": half of the heads over space, half over time, one projection `joint` (ViViT model 4).
      "windowed": within 3-D windows, with a relative position bias; parameters `window` and `bias` (Video Swin).
    heads: A; must divide D.
    causal: no token sees a later frame; not with "windowed".
    window, shift: tokens along (t, h, w), of "windowed". A window is no larger than the grid, and is not shifted along
      an axis that it covers.
    qkv_bias, dropout, lowering, dtype: see `MultiHeadAttention`.

  "divided" and "axial" add the input to all results but the last, so that a block that adds its input to the whole
  has one residual path around each attention.

  Raises:
    ValueError: heads that do not divide D, a shift that is not smaller than the window, or a causal "windowed".

  Source: Bertasius et al. 2021, "TimeSformer", section 3; Arnab et al. 2021, "ViViT", section 3.3; Liu et al. 2021,
  "Video Swin Transformer", section 3.
  Differs from the paper: TimeSformer has a norm before and a projection after each attention, so its block is built
  from `attend_time` and `attend_space`.
  """

  form: Form
  heads: Count
  causal: bool = False
  window: tuple[Count, Count, Count] = (8, 7, 7)
  shift: tuple[CountOrZero, CountOrZero, CountOrZero] = (0, 0, 0)
  qkv_bias: bool = True
  dropout: Fraction = 0.0
  lowering: Lowering | None = None
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "B t h w D"], *, train: bool = False) -> Float[Array, "B t h w D"]:
    if self.form == "windowed":
      return self._windowed(x, train)
    if self.form == "factorised":
      return self._factorised(x, train)
    axes: dict[str, tuple[Axis, ...]] = {
      "joint": ("joint",),
      "divided": ("time", "space"),
      "axial": ("time", "height", "width"),
    }
    whole = jnp.zeros((), x.dtype)
    for axis in axes[self.form]:
      x = x + whole
      frame = x.shape[2] * x.shape[3] if axis == "joint" else 1
      causal = self.causal and axis in ("time", "joint")
      attention = self._attention(axis, causal, frame)
      whole = attend_over(axis, partial(attention, train=train), x)
    return whole

  def _attention(self, name: str, causal: bool = False, causal_block: int = 1) -> MultiHeadAttention:
    return MultiHeadAttention(
      self.heads,
      qkv_bias=self.qkv_bias,
      dropout=self.dropout,
      causal=causal,
      causal_block=causal_block,
      lowering=self.lowering,
      dtype=self.dtype,
      name=name,
    )

  def _factorised(self, x: Array, train: bool) -> Array:
    t, h, w = x.shape[1:4]

    def halves(q, k, v, bias, mask, **options):
      del bias, mask  # nobody gives them here
      grids = (rearrange(y, "b (t h w) a d -> b t h w a d", t=t, h=h, w=w) for y in (q, k, v))
      out = attend_factorised(*grids, causal=self.causal, **options)
      return rearrange(out, "b t h w a d -> b (t h w) a d")

    return attend_over("joint", partial(self._attention("joint"), attention=halves, train=train), x)

  def _windowed(self, x: Array, train: bool) -> Array:
    if self.causal:
      raise ValueError('form "windowed" cannot be causal: take "joint", "divided", "axial" or "factorised"')
    for s, n in zip(self.shift, self.window, strict=True):
      if s >= n:
        raise ValueError(f"shift {self.shift}: must be smaller than the window {self.window} along every axis")
    grid = x.shape[1:4]
    t, h, w = ((min(n, k), s if n > k else 0) for n, k, s in zip(grid, self.window, self.shift, strict=True))
    size, shift = (t[0], h[0], w[0]), (t[1], h[1], w[1])
    bias = RelativeBias(self.window, self.heads, name="bias")(size)
    return attend_windows(partial(self._attention("window"), bias=bias, train=train), x, size, shift)
