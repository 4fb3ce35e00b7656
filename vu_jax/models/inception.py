"""Inception-v1 (GoogLeNet) on every frame, averaged over time: a control that cannot see order."""

from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from vu_jax.glossary import CountOrZero, Positive
from vu_jax.layers.blocks.inception import ALL_BLOCKS, frame_trunk
from vu_jax.layers.gates import global_mean
from vu_jax.layers.precision import Dtype

TINY = {"width": 1 / 16, "blocks": (1, 0, 0)}
PRESETS: dict[str, dict[str, Any]] = {"googlenet": {}}


class Model(nn.Module):
  """frames -> Inception-v1 with batch norm -> mean over space and time.

    video (B T H W C) --7x7 /2, pool, 1x1, 3x3, pool--> 2 mixed blocks --pool--> 5 --pool--> 2
    --> tokens (B T H/32 W/32 D) --mean--> pooled (B D)

  Frames of any size; torchvision's own takes 15x15 px and more. Its pretrained weights want pixels in -1 to 1
  (`transform_input` there, `pixels.mean` and `std` 0.5 here).

  Source: Szegedy et al. 2015, "Going deeper with convolutions", table 1.
  Differs from the paper: batch norm (epsilon 1e-3) instead of local response norm, 3x3 where a branch has 5x5, no
    auxiliary classifiers, as torchvision's googlenet at inference; features of the frames are averaged.

  Fields:
    width: factor of all channels; at 1, D is 1024.
    blocks: mixed blocks before, between and behind the last two pools, at most (2, 5, 2); fewer = the first ones.
    norm_frozen: batch norm uses its stored statistics in training, too.
    remat: compute each block again in the backward pass instead of storing what is inside of it.
    dtype: of the computation; parameters are float32.
  """

  width: Positive = 1.0
  blocks: tuple[CountOrZero, CountOrZero, CountOrZero] = ALL_BLOCKS
  norm_frozen: bool = False
  remat: bool = False
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, video: Float[Array, "B T H W C"], *, train: bool) -> dict[str, Array]:
    trunk = frame_trunk(
      train=train,
      norm_frozen=self.norm_frozen,
      width=self.width,
      blocks=self.blocks,
      remat=self.remat,
      dtype=self.dtype,
    )
    tokens = trunk(video)
    return {"tokens": tokens, "pooled": global_mean(tokens).astype(tokens.dtype)}
