"""Gates on channels: the clip's average decides how much of each channel passes."""

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange, reduce
from jaxtyping import Array, Float

from vu_jax.layers.dense import Dense
from vu_jax.layers.precision import Dtype, cast, multiply


def global_mean(x: Float[Array, "B T H W C"]) -> Float[Array, "B C"]:
  """The mean over time and space, summed in float32 and returned in it."""
  return reduce(x.astype(jnp.float32), "b t h w c -> b c", "mean")


def pass_through(x: Float[Array, "B T H W C"], logits: Float[Array, "B C"]) -> Float[Array, "B T H W C"]:
  """x times sigmoid(logits) of its clip and channel."""
  return multiply(x, rearrange(nn.sigmoid(logits), "b c -> b 1 1 1 c"))


def squeezed_width(channels: int, ratio: float, multiple: int = 8) -> int:
  """Channels in the narrow part: channels * ratio, rounded to the nearest multiple (at least one of them).

  Rounding never takes away more than a tenth: 27 becomes 32, not 24.
  Source: Howard et al. 2019, "MobileNetV3" (code), which X3D follows.
  """
  wanted = channels * ratio
  nearest = max(multiple, int(wanted + multiple / 2) // multiple * multiple)
  return nearest if nearest >= 0.9 * wanted else nearest + multiple


class SqueezeExcite(nn.Module):
  """y = x * sigmoid(expand(relu(squeeze(mean over t, h, w of x)))): (B T H W C) -> (B T H W C).

  Fields:
    ratio: of the narrow width to C, above 0; rounded by `squeezed_width`.
    dtype: of the computation; parameters and the mean are float32.

  Raises:
    ValueError: a ratio that is not positive.

  Source: Hu et al. 2018, "Squeeze-and-excitation networks", equations 2 to 4; Feichtenhofer 2020, "X3D" (ratio and
    rounding).
  """

  ratio: float = 1 / 16
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "B T H W C"]) -> Float[Array, "B T H W C"]:
    if self.ratio <= 0:
      raise ValueError(f"ratio {self.ratio}: must be positive, 1/16 in X3D")
    channels = x.shape[-1]
    (x,) = cast(self.dtype, x)
    narrow = squeezed_width(channels, self.ratio)
    hidden = nn.relu(Dense(narrow, dtype=self.dtype, name="squeeze")(global_mean(x)))
    return pass_through(x, Dense(channels, dtype=self.dtype, name="expand")(hidden))


class SelfGating(nn.Module):
  """y = x * sigmoid(W mean over t, h, w of x + b): (B T H W C) -> (B T H W C).

  Fields:
    use_bias: whether b exists; the authors' S3D-G has none, that of MMV has.
    dtype: of the computation; parameters and the mean are float32.

  Source: Xie et al. 2018, "Rethinking spatiotemporal feature learning" (S3D-G), on feature gating.
  """

  use_bias: bool = False
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "B T H W C"]) -> Float[Array, "B T H W C"]:
    (x,) = cast(self.dtype, x)
    gate = Dense(x.shape[-1], use_bias=self.use_bias, dtype=self.dtype, name="gate")
    return pass_through(x, gate(global_mean(x)))
