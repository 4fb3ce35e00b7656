"""Stochastic depth: whole residual branches are left out at random while training."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def check_rate(rate: float) -> None:
  """Raises ValueError unless 0 <= rate < 1."""
  if not 0 <= rate < 1:
    raise ValueError(f"drop path rate {rate}: must be at least 0 and below 1")


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
    if not train or self.rate == 0:
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
