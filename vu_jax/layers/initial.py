"""How kernels start."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Initializer


def flat(init: Initializer) -> Initializer:
  """The initialiser for kernels (*window, C, D), drawn as a matrix of (window * C, D) and then put into shape.

  The numbers are the same, and XLA compiles it several times faster: the time for a draw grows with its rank (on the
  CPU 2.2 s for 5x5x3x8, 1.3 s for 3x3x3x16x64, 0.3 s as a matrix), and each shape is compiled anew.
  """

  def drawn(key, shape, dtype=jnp.float32, **options):
    return init(key, (math.prod(shape[:-1]), shape[-1]), dtype, **options).reshape(shape)

  return drawn


KERNEL = flat(nn.initializers.lecun_normal())
"""The start of kernels of convolutions and matrix products: truncated normal of variance 1 / (window * C)."""


def he_fan_out(key, shape, dtype=jnp.float32):
  """Kernels (*window, C, D) before a ReLU: normal of variance 2 / (window * D), which keeps that of the gradient.

  Source: He et al. 2015, "Delving deep into rectifiers", equation 14; as in torch, groups are not counted.
  """
  deviation = math.sqrt(2 / (math.prod(shape[:-2]) * shape[-1]))
  # Drawn as a matrix for the reason that `flat` states.
  return (deviation * jax.random.normal(key, (math.prod(shape[:-1]), shape[-1]), dtype)).reshape(shape)
