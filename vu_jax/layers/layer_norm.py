"""Layer norm whose gradient takes its sums over the channels as dot products.

Differentiated by JAX, these are sums of products, which XLA's CPU adds up one after the other: the gradient of 1568
tokens of 768 channels took 33 ms, and takes 2.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vu_jax.layers.precision import Dtype

Channels = Float[Array, "C"]


class LayerNorm(nn.Module):
  """Each position to mean 0 and variance 1 over the last axis, times `scale` plus `bias`: `(... C) -> (... C)`.

  Parameters `scale` and `bias`, as `nn.LayerNorm` names them. Computed in float32.

  Fields:
    epsilon: added to the variance.
    dtype: of the result.

  Source: Ba et al. 2016, "Layer normalization", equation 4.
  """

  epsilon: float = 1e-6
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "... C"]) -> Float[Array, "... C"]:
    scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
    bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
    return layer_normalized(x, scale, bias, self.epsilon).astype(self.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def layer_normalized(
  x: Float[Array, "... C"], scale: Channels, bias: Channels, epsilon: float
) -> Float[Array, "... C"]:
  """(x - mean) / sqrt(var + epsilon) * scale + bias, in float32."""
  return _forward(x, scale, bias, epsilon)[0]


def _forward(x: Array, scale: Array, bias: Array, epsilon: float) -> tuple[Array, tuple]:
  wide = x.astype(jnp.float32)
  mean = wide.mean(-1, keepdims=True)
  inverse = jax.lax.rsqrt(jnp.square(wide - mean).mean(-1, keepdims=True) + epsilon)
  return (wide - mean) * inverse * scale + bias, (x, mean, inverse, scale)


def _backward(epsilon: float, kept: tuple, dy: Array) -> tuple[Array, Array, Array]:
  """With g = dy scale and h = (x - mean) inv: dx = inv (g - mean(g) - h mean(g h))."""
  del epsilon
  x, mean, inverse, scale = kept
  h = (x.astype(jnp.float32) - mean) * inverse
  dots = partial(jnp.einsum, "...c,c->...", precision="highest")
  mean_g, mean_gh = (dots(a, scale)[..., None] / x.shape[-1] for a in (dy, dy * h))
  d_x = inverse * (dy * scale - mean_g - h * mean_gh)
  axes = tuple(range(x.ndim - 1))
  return d_x.astype(x.dtype), (dy * h).sum(axes), dy.sum(axes)


layer_normalized.defvjp(_forward, _backward)
