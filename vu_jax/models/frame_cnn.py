"""A CNN on every frame, averaged over time: the control that cannot see order."""

from typing import Literal

import flax.linen as nn
from einops import reduce
from jaxtyping import Array, Float

from vu_jax.glossary import Count
from vu_jax.layers.blocks.cnn import FrameTrunk

TINY = {"stages": ((4, 2), (8, 2))}


class Model(nn.Module):
  """frames -> 2-D CNN -> mean over space and time.

    video (B T H W 3) --trunk--> tokens (B T h w D) --mean--> pooled (B D)

  The single-frame and frame-average baselines of Karpathy et al. 2014 (section 3.1) and Ng et al. 2015. Whatever it
  scores above chance comes from appearance: shuffling the frames changes nothing.
  Differs from the papers: a small trunk with group norm, features averaged instead of scores.

  Fields:
    stages: (channels, spatial stride) of each convolution.
    dtype: of the computation, "float32" or "bfloat16"; parameters are float32.
  """

  stages: tuple[tuple[Count, Count], ...] = ((16, 2), (32, 2), (64, 2), (64, 1))
  dtype: Literal["float32", "bfloat16"] = "float32"

  @nn.compact
  def __call__(self, video: Float[Array, "B T H W C"], *, train: bool) -> dict[str, Array]:
    del train  # no dropout, no batch statistics
    tokens = FrameTrunk(self.stages, self.dtype, name="trunk")(video)
    return {"tokens": tokens, "pooled": reduce(tokens, "b t h w d -> b d", "mean")}
