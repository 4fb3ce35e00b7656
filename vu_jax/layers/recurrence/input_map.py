"""The part of a recurrence that does not recur: what the frames contribute, for all of them at once."""

import flax.linen as nn
from einops import rearrange
from jaxtyping import Array, Float

from vu_jax.layers.convolution.conv import conv2d
from vu_jax.layers.dense import add_bias
from vu_jax.layers.initial import KERNEL
from vu_jax.layers.precision import Dtype, cast
from vu_jax.layers.product import product
from vu_jax.layers.recurrence.cells import norm


class InputMap(nn.Module):
  """What the frames contribute to the gates: a matmul or a convolution that keeps the size, with bias or layer norm.

  Fields:
    features: channels of all gates together.
    kernel_size: () or (kh, kw).
    norm_groups: channels per layer norm, or () for none; its own bias then takes the place of the map's.
  """

  features: int
  kernel_size: tuple[int, ...] = ()
  norm_groups: tuple[int, ...] = ()
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "T B *grid C"]) -> Float[Array, "T B *grid G"]:
    shape = (*self.kernel_size, x.shape[-1], self.features)
    x, kernel = cast(self.dtype, x, self.param("kernel", KERNEL, shape))
    if self.kernel_size:
      gates = conv2d(rearrange(x, "t b h w c -> (t b) h w c"), kernel)
      gates = rearrange(gates, "(t b) h w g -> t b h w g", b=x.shape[1])
    else:
      gates = product(x, kernel)
    if self.norm_groups:
      return norm(gates, self.norm_groups, "norm", self.dtype)
    return add_bias(self, gates)
