"""A running average of the parameters, to evaluate with: pure functions of trees."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vu_jax.glossary import Fraction


def start_average(params: Any) -> Any:
  """The average before any update: the parameters themselves, copied to float32 so that either may be donated."""
  return jax.tree.map(lambda p: jnp.array(p, jnp.float32, copy=True), params)


def update_average(average: Any, params: Any, updates: Any, decay: Fraction, warmup: bool = True) -> Any:
  """average <- d average + (1 - d) params, in float32.

  d = min(decay, (1 + n) / (10 + n)) with a warm-up, so that the average forgets the start within the first updates;
  without one d = decay. Batch statistics are running averages already, and are evaluated with as they are.

  Args:
    average: of `start_average`, or of the update before.
    params: after update n.
    updates: n, the number of updates made: 1 after the first.
    decay: share of the average that is kept; 0.9999 averages over about 10,000 updates.
    warmup: whether d rises to `decay`.

  Source: Polyak and Juditsky 1992, as a moving average; the warm-up is that of TensorFlow's
    `ExponentialMovingAverage(num_updates)`.
  """
  gain = new_share(updates, decay, warmup)
  return jax.tree.map(lambda mean, p: mean + gain * (p.astype(jnp.float32) - mean), average, params)


def new_share(updates: Any, decay: Fraction, warmup: bool) -> Float[Array, ""]:
  """1 - d, computed without the cancellation of 1 - 0.9999 in float32."""
  share = jnp.asarray(1 - decay, jnp.float32)
  return jnp.maximum(share, 9 / (10 + updates)) if warmup else share
