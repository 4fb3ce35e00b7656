"""Multi-head attention: the layer with its projections.

Class tokens: a model appends them to flat tokens and calls `MultiHeadAttention` on `(B (1 + t h w) D)`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Bool, Float

from vu_jax.glossary import Count, Fraction
from vu_jax.layers.attention.attention import Lowering, attend
from vu_jax.layers.dense import Dense
from vu_jax.layers.precision import Dtype, add


class MultiHeadAttention(nn.Module):
  """Attention with projections: (... N D) -> (... N features).

  Parameters: `qkv` (D, 3 x features) of self-attention, or `query`, `key`, `value` with a context; `out`. Their
  features are ordered (q k v) (head) (feature of the head).

  Fields:
    heads: A; must divide `features`.
    features: width of queries, keys, values and result; that of the input when left out.
    qkv_bias: whether the input projections have biases. That of the keys has no effect on the result; "qv", for
      self-attention, leaves it out (VideoMAE): parameters `query_bias` and `value_bias`.
    dropout: fraction of attention weights dropped in training; draws from the "dropout" stream.
    causal: tokens see no later ones; `causal_block` tokens, such as those of a frame, count as one moment.
    lowering: see `attend`.
    dtype: of the computation; parameters are float32.

  Raises:
    ValueError: heads that do not divide the features, or "qv" with a context.

  Source: Vaswani et al. 2017, section 3.2.2.
  """

  heads: Count
  features: Count | None = None
  qkv_bias: bool | Literal["qv"] = True
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
    dense = partial(Dense, use_bias=self.qkv_bias is True, dtype=self.dtype)
    if context is None:
      qkv = dense(3 * features, name="qkv")(x)
      if self.qkv_bias == "qv":
        qkv = add(qkv, self._bias_without_keys(features))
      q, k, v = (rearrange(y, "... (a d) -> ... a d", a=self.heads) for y in jnp.split(qkv, 3, -1))
    else:
      if self.qkv_bias == "qv":
        raise ValueError('qkv_bias "qv" is for self-attention: take True or False with a context')
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
    return Dense(features, dtype=self.dtype, name="out")(out)

  def _bias_without_keys(self, features: int) -> Float[Array, " F"]:
    query, value = (self.param(f"{n}_bias", nn.initializers.zeros, (features,)) for n in ("query", "value"))
    return jnp.concatenate([query, jnp.zeros(features), value])
