"""The linear map of the last axis, and the bias that convolutions and recurrences add as well."""

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Initializer
from jaxtyping import Array, Float

from vu_jax.layers.initial import KERNEL
from vu_jax.layers.precision import Dtype, add, cast
from vu_jax.layers.product import product


class Dense(nn.Module):
  """`(... C) -> (... features)`: a matrix product and a bias; parameters `kernel (C D)` and `bias (D)`, as in flax.

  Differs from `flax.linen.Dense`: the bias has a float32 gradient in bfloat16, too (see `precision.add`).
  """

  features: int
  use_bias: bool = True
  kernel_init: Initializer = KERNEL
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "... C"]) -> Float[Array, "... D"]:
    x, kernel = cast(self.dtype, x, self.param("kernel", self.kernel_init, (x.shape[-1], self.features), jnp.float32))
    y = product(x, kernel)
    return add_bias(self, y) if self.use_bias else y


def add_bias(module: nn.Module, y: Float[Array, "... D"], name: str = "bias") -> Float[Array, "... D"]:
  """y plus a parameter `name` (D) of `module`, zeros at first; call it inside a compact method."""
  return add(y, module.param(name, nn.initializers.zeros, (y.shape[-1],), jnp.float32))
