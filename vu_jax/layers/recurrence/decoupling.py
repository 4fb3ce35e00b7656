"""The decoupling of PredRNN's two memories: a penalty on increments of C and M that look alike.

Source: Wang et al. 2022, "PredRNN: A Recurrent Neural Network for Spatiotemporal Predictive Learning", section 3.3.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange, reduce
from jaxtyping import Array, Float

from vu_jax.layers.precision import Dtype
from vu_jax.layers.recurrence.hoist import RecurrentMap

Map = Float[Array, "B h w D"]


def increment(i: Map, g: Map) -> Map:
  """sigmoid(i) tanh(g): what an LSTM adds to its memory."""
  return nn.sigmoid(i) * jnp.tanh(g)


def overlap(a: Float[Array, "L B h w D"], b: Float[Array, "L B h w D"]) -> Float[Array, " B"]:
  """Mean over layers and channels of |cos(a, b)|, the angle between a channel's two maps; 0..1, float32."""
  a, b = (rearrange(x.astype(jnp.float32), "l b h w d -> l b d (h w)") for x in (a, b))
  product, lengths = (a * b).sum(-1), jnp.square(a).sum(-1) * jnp.square(b).sum(-1)
  # Bounded before the root, whose gradient at zero is infinite: an increment may vanish everywhere.
  cosine = product / jnp.sqrt(jnp.maximum(lengths, 1e-24))
  return reduce(jnp.abs(cosine), "l b d -> b", "mean")


class Decoupling(nn.Module):
  """The penalty of one step (B), 0..1: `overlap` of the increments of all layers behind one shared 1x1 convolution."""

  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, increments: Sequence[tuple[Map, Map]]) -> Float[Array, " B"]:
    pairs = jnp.stack([jnp.stack(pair) for pair in increments], axis=1)
    features = pairs.shape[-1]
    flat = rearrange(pairs, "two l b h w d -> (two l b) h w d")
    adapted = RecurrentMap(features, (1, 1), dtype=self.dtype, name="adapter")(flat)
    return overlap(*rearrange(adapted, "(two l b) h w d -> two l b h w d", two=2, l=len(increments)))
