"""Pooling over time that can be continued: what a clip is, once its frames have been seen."""

from typing import Any, Literal, NamedTuple, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import reduce
from jaxtyping import Array, Float

from vu_jax.layers.precision import Dtype

Pool: TypeAlias = Literal["mean", "last", "attention"]


class PoolState(NamedTuple):
  """Of the frames so far: weighted sum (B D), sum of weights (B), highest score (B); all float32."""

  total: Any
  weight: Any
  peak: Any


class TimePool(nn.Module):
  """Mean over space, then over time: `(B T h w D) -> (B D)`, of all frames since the state began.

  Fields:
    kind: the "mean" over time, the "last" frame only, or "attention": the mean weighted by softmax(x_t . query /
      sqrt(D)) with a learned query, which starts at zero, that is, at the mean.
    dtype: of the result; sums are float32.

  Source of "attention": Bahdanau et al. 2015, with one query for all clips as in Yang et al. 2016, "Hierarchical
  Attention Networks", section 2.2. Differs from the papers: a dot product scores, not a hidden layer. The softmax goes
  on from the state as in Milakov & Gimelshein 2018, "Online normalizer calculation for softmax", algorithm 3.
  """

  kind: Pool
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "B T h w D"], state: PoolState) -> tuple[Float[Array, "B D"], PoolState]:
    if self.kind == "last":
      return reduce(x[:, -1], "b h w d -> b d", "mean").astype(self.dtype), state
    state = self._averaged(x.astype(jnp.float32), state)
    return (state.total / state.weight[:, None]).astype(self.dtype), state

  def _averaged(self, x: Array, state: PoolState) -> PoolState:
    if self.kind == "mean":
      total = reduce(x, "b t h w d -> b d", "sum") / (x.shape[2] * x.shape[3])
      return PoolState(state.total + total, state.weight + x.shape[1], state.peak)
    frames = reduce(x, "b t h w d -> b t d", "mean")
    query = self.param("query", nn.initializers.zeros, frames.shape[-1:])
    scores = jnp.einsum("btd,d->bt", frames, query) * frames.shape[-1] ** -0.5
    # Subtracting the peak changes no weight, only keeps the exponentials small; so it needs no gradient.
    peak = jax.lax.stop_gradient(jnp.maximum(state.peak, scores.max(axis=1)))
    weights, fade = jnp.exp(scores - peak[:, None]), jnp.exp(state.peak - peak)
    total = state.total * fade[:, None] + jnp.einsum("bt,btd->bd", weights, frames)
    return PoolState(total, state.weight * fade + weights.sum(axis=1), peak)

  @nn.nowrap
  def zero_state(self, batch: int, width: int) -> PoolState:
    """The state before the first frame; `width` is D."""
    zeros = jnp.zeros((batch,), jnp.float32)
    return PoolState(jnp.zeros((batch, width), jnp.float32), zeros, jnp.full_like(zeros, -1e30))
