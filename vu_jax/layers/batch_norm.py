"""Batch norm whose gradient is one pass over the clip for the sums and one for the result.

Differentiated by JAX, the normalisation of a clip goes through memory about twice as often as it has to; it is most of
what a 3-D network does beside its convolutions. The barriers keep XLA from computing what comes in anew for each sum
and for the result.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vu_jax.layers.precision import Dtype

Channels = Float[Array, "C"]


class BatchNorm(nn.Module):
  """Each channel to mean 0 and variance 1 over all other axes, times `scale` plus `bias`: `(... C) -> (... C)`.

  Parameters `scale` and `bias`, and in the collection "batch_stats" `mean` and `var`, as `nn.BatchNorm` names them.
  Over a mesh, under jit, the batch is the global one. The statistics are computed in float32.

  Fields:
    use_running_average: normalise by the stored statistics, and leave them as they are.
    momentum: share of the old statistics that stays.
    epsilon: added to the variance.
    use_scale: whether there is a factor.
    scale_init: of the factor.
    dtype: of the result.

  Source: Ioffe & Szegedy 2015, algorithm 1; the gradient is that of section 3, rewritten.
  """

  use_running_average: bool
  momentum: float = 0.9
  epsilon: float = 1e-5
  use_scale: bool = True
  scale_init: nn.initializers.Initializer = nn.initializers.ones
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "... C"]) -> Float[Array, "... C"]:
    channels = x.shape[-1]
    mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
    var = self.variable("batch_stats", "var", jnp.ones, channels)
    scale = self.param("scale", self.scale_init, (channels,)) if self.use_scale else jnp.ones(channels)
    bias = self.param("bias", nn.initializers.zeros, (channels,))
    if self.use_running_average:
      factor = scale * jax.lax.rsqrt(var.value + self.epsilon)
      return _affine(x, factor, bias - mean.value * factor).astype(self.dtype)
    y, batch_mean, batch_var = batch_normalized(x, scale, bias, self.epsilon)
    if not self.is_initializing():
      mean.value = self.momentum * mean.value + (1 - self.momentum) * batch_mean
      var.value = self.momentum * var.value + (1 - self.momentum) * batch_var
    return y.astype(self.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def batch_normalized(
  x: Float[Array, "... C"], scale: Channels, bias: Channels, epsilon: float
) -> tuple[Float[Array, "... C"], Channels, Channels]:
  """(x - mean) / sqrt(var + epsilon) * scale + bias, and the mean and variance; of these no gradient is taken."""
  return _forward(x, scale, bias, epsilon)[0]


def _forward(x: Array, scale: Array, bias: Array, epsilon: float) -> tuple[tuple[Array, Array, Array], tuple]:
  x = jax.lax.optimization_barrier(x)
  mean, var = _moments(x)
  inverse = jax.lax.rsqrt(var + epsilon)
  factor = scale * inverse
  return (_affine(x, factor, bias - mean * factor), mean, var), (x, mean, inverse, scale)


def _backward(epsilon: float, kept: tuple, cotangents: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
  """With g = dy, n values per channel and h = (x - mean) inv: dx = scale inv (g - mean(g) - h mean(g h))."""
  del epsilon
  x, mean, inverse, scale = kept
  grad = jax.lax.optimization_barrier(cotangents[0]).astype(jnp.float32)
  axes = tuple(range(x.ndim - 1))
  share = x.shape[-1] / x.size
  d_bias = grad.sum(axes)
  d_scale = (grad * (x.astype(jnp.float32) - mean)).sum(axes) * inverse
  factor = scale * inverse
  slope = -factor * inverse * d_scale * share
  offset = -factor * d_bias * share - slope * mean
  # One fused pass: a grad + slope x + offset.
  d_x = factor * grad + slope * x.astype(jnp.float32) + offset
  return d_x.astype(x.dtype), d_scale, d_bias


batch_normalized.defvjp(_forward, _backward)


def _moments(x: Array) -> tuple[Array, Array]:
  """Mean and variance of each channel, from sums of x and x^2: one pass, in float32."""
  x = x.astype(jnp.float32)
  axes = tuple(range(x.ndim - 1))
  mean = x.mean(axes)
  return mean, jnp.maximum(jnp.square(x).mean(axes) - jnp.square(mean), 0.0)


def _affine(x: Array, factor: Array, offset: Array) -> Array:
  return x.astype(jnp.float32) * factor + offset
