"""A CNN on every frame, averaged over time: the control that cannot see order."""

import flax.linen as nn
from einops import reduce
from jaxtyping import Array, Float

from vu_jax.glossary import Count
from vu_jax.layers.cnn import FrameTrunk

TINY = {"features": (4, 8), "strides": (2, 2)}


class Model(nn.Module):
  """frames -> 2-D CNN -> mean over space and time.

    video (B T H W 3) --trunk--> tokens (B T h w D) --mean--> pooled (B D)

  The single-frame and frame-average baselines of Karpathy et al. 2014 (section 3.1) and Ng et al. 2015. Whatever it
  scores above chance comes from appearance: shuffling the frames changes nothing.
  Differs from the papers: a small trunk with group norm, features averaged instead of scores.

  Fields:
    features, strides: channels and spatial stride of each convolution.
    dtype: of the computation, "float32" or "bfloat16"; parameters are float32.
  """

  features: tuple[Count, ...] = (16, 32, 64, 64)
  strides: tuple[Count, ...] = (2, 2, 2, 1)
  dtype: str = "float32"

  @nn.compact
  def __call__(self, video: Float[Array, "B T H W C"], *, train: bool) -> dict[str, Array]:
    del train  # no dropout, no batch statistics
    tokens = FrameTrunk(self.features, self.strides, self.dtype, name="trunk")(video)
    return {"tokens": tokens, "pooled": reduce(tokens, "b t h w d -> b d", "mean")}
