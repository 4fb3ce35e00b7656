"""Attention over video: the multi-head layer, and the ways to lay it over a grid of space and time.

Class tokens: a model appends them to flat tokens and calls `MultiHeadAttention` on `(B (1 + t h w) D)`; the grids here
have none.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Bool, Float, Int

from vu_jax.glossary import Count, CountOrZero, Fraction
from vu_jax.layers.attention import Lowering, attend
from vu_jax.layers.precision import Dtype

Size: TypeAlias = tuple[int, int, int]
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


class MultiHeadAttention(nn.Module):
  """Attention with projections: (... N D) -> (... N features).

  Parameters: `qkv` (D, 3 x features) of self-attention, or `query`, `key`, `value` with a context; `out`. Their
  features are ordered (q k v) (head) (feature of the head).

  Fields:
    heads: A; must divide `features`.
    features: width of queries, keys, values and result; that of the input when left out.
    qkv_bias: whether the input projections have biases. That of the keys has no effect on the result.
    dropout: fraction of attention weights dropped in training; draws from the "dropout" stream.
    causal: tokens see no later ones; `causal_block` tokens, such as those of a frame, count as one moment.
    lowering: see `attend`.
    dtype: of the computation; parameters are float32.

  Raises:
    ValueError: heads that do not divide the features.

  Source: Vaswani et al. 2017, section 3.2.2.
  """

  heads: Count
  features: Count | None = None
  qkv_bias: bool = True
  dropout: Fraction = 0.0
  causal: bool = False
  causal_block: Count = 1
  lowering: Lowering | None = None
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "*batch N D"],
    context: Float[Array, "*batch M C"] | None = None,
    *,
    bias: Float[Array, "..."] | None = None,
    mask: Bool[Array, "..."] | None = None,
    rotate: Callable[[Array, Array], tuple[Array, Array]] | None = None,
    attention: Callable[..., Array] = attend,
    train: bool = False,
  ) -> Float[Array, "*batch N E"]:
    """Attends from `x` to `context`, or to itself.

    Args:
      x: the tokens that ask.
      context: the tokens that are looked at, for cross-attention.
      bias, mask: broadcast to (*batch A N M); see `attend`.
      rotate: (q, k) -> (q, k) before the dot products, arrays (*batch N A d): for rotary positions.
      attention: what combines q, k and v, in place of `attend`.
      train: whether to drop weights.
    """
    features = self.features or x.shape[-1]
    if features % self.heads:
      raise ValueError(f"{self.heads} heads do not divide {features} features: change one of them")
    dense = partial(nn.Dense, use_bias=self.qkv_bias, dtype=self.dtype)
    if context is None:
      qkv = dense(3 * features, name="qkv")(x)
      q, k, v = rearrange(qkv, "... n (three a d) -> three ... n a d", three=3, a=self.heads)
    else:
      named = (("query", x), ("key", context), ("value", context))
      q, k, v = (rearrange(dense(features, name=n)(y), "... (a d) -> ... a d", a=self.heads) for n, y in named)
    if rotate is not None:
      q, k = rotate(q, k)
    options: dict[str, Any] = {"bias": bias, "mask": mask, "lowering": self.lowering}
    if self.causal:
      options |= {"causal": True, "causal_block": self.causal_block}
    if train and self.dropout:
      options |= {"dropout": self.dropout, "dropout_key": self.make_rng("dropout")}
    out = rearrange(attention(q, k, v, **options), "... n a d -> ... n (a d)")
    return nn.Dense(features, dtype=self.dtype, name="out")(out)


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
    mask = (parts[..., :, None] == parts[..., None, :]) & (parts >= 0)[..., None, :]
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
    def halves(q, k, v, bias, mask, **options):
      del bias, mask  # nobody gives them here
      grids = (rearrange(y, "b (t h w) a d -> b t h w a d", **_sides(x.shape[1:4])) for y in (q, k, v))
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
