"""What is left out at random while training: values (dropout), or whole residual branches (stochastic depth)."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vu_jax.glossary import is_zero, known


def check_rate(rate: float) -> None:
  """Raises ValueError unless 0 <= rate < 1."""
  if known(rate) and not 0 <= rate < 1:
    raise ValueError(f"drop path rate {rate}: must be at least 0 and below 1")


class Dropout(nn.Module):
  """Sets values to zero and divides the others by 1 - rate: the expectation is kept.

  Draws and results are those of `flax.linen.Dropout`, which takes no rate that is traced.

  Fields:
    rate: probability that a value is dropped.
    broadcast_dims: axes along which all values share one decision.
    deterministic: the identity, which needs no rng "dropout"; may be said in the call instead. So is a rate of 0.

  Source: Srivastava et al. 2014, "Dropout: A Simple Way to Prevent Neural Networks from Overfitting".
  Differs from the paper: the scale is applied in training.
  """

  rate: float
  broadcast_dims: Sequence[int] = ()
  deterministic: bool | None = None

  @nn.compact
  def __call__(self, x: Float[Array, "*shape"], deterministic: bool | None = None) -> Float[Array, "*shape"]:
    if nn.merge_param("deterministic", self.deterministic, deterministic) or is_zero(self.rate):
      return x
    keep = 1 - self.rate
    shape = [1 if axis in self.broadcast_dims else size for axis, size in enumerate(x.shape)]
    kept = jax.random.bernoulli(self.make_rng("dropout"), keep, shape)
    # A rate of 1 keeps nothing, and must not divide by 0, for the gradient's sake.
    return jnp.where(kept, x / jnp.maximum(keep, jnp.finfo(jnp.float32).tiny).astype(x.dtype), 0)


class DropPath(nn.Module):
  """Sets the branch to zero for some clips and divides it by 1 - rate for the others: the expectation is kept.

  Needs the rng "dropout" only where it drops, that is, when `train` and rate > 0; otherwise it is the identity.

  Fields:
    rate: probability that a clip's branch is dropped, from 0 to below 1.

  Raises:
    ValueError: a rate outside that range.

  Source: Huang et al. 2016, "Deep networks with stochastic depth", section 3.
  Differs from the paper: one decision per clip instead of one per batch, and the scale is applied in training.
  """

  rate: float

  @nn.compact
  def __call__(self, x: Float[Array, "B *rest"], *, train: bool) -> Float[Array, "B *rest"]:
    check_rate(self.rate)
    if not train or is_zero(self.rate):
      return x
    keep = 1 - self.rate
    kept = jax.random.bernoulli(self.make_rng("dropout"), keep, (x.shape[0],) + (1,) * (x.ndim - 1))
    return jnp.where(kept, x.astype(jnp.float32) / keep, 0).astype(x.dtype)


def depth_rates(rate: float, depth: int) -> tuple[float, ...]:
  """Rates of `depth` blocks that grow linearly from 0 at the first to `rate` at the last; (0,) for one block.

  Raises:
    ValueError: a rate outside 0 to below 1.

  Source: Huang et al. 2016, equation 4, from 0 instead of rate / depth as in ViViT, TimeSformer and VideoMAE.
  """
  check_rate(rate)
  return tuple(rate * block / max(depth - 1, 1) for block in range(depth))
