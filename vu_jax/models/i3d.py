"""I3D: Inception-v1 inflated to 3-D, for colour or flow."""

from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from vu_jax.glossary import CountOrZero, Fraction, Positive
from vu_jax.layers.blocks.inception import ALL_BLOCKS, InceptionTrunk, Style, sliding_mean
from vu_jax.layers.norm import batch_norm
from vu_jax.layers.precision import Dtype

TINY = {"width": 1 / 16, "blocks": (1, 0, 0)}
PRESETS: dict[str, dict[str, Any]] = {"i3d": {}}


class Model(nn.Module):
  """Inception-v1 with 3x3x3 where it has 3x3.

    video (B T H W C) --7x7x7 /2, pool, 1x1x1, 3x3x3, pool--> 2 mixed blocks --pool--> 5 --pool--> 2
    --> tokens (B T/8 H/32 W/32 D); pooled (B D) = the mean over sliding windows of 2x7x7 tokens

  C is 3 for colour in -1 to 1 (`pixels.mean` and `std` 0.5) and 2 for optical flow, cut at 20 pixels and divided by 20.
  The two streams of the paper are two networks whose logits are added. Any number of frames and any size; published
  weights expect at least 9 frames of 193x193 px, so that the last window has its 2x7x7 tokens.

  Source: Carreira & Zisserman 2017, "Quo vadis, action recognition?", figure 3; its code (kinetics-i3d) for
    TensorFlow's padding and batch norm without a factor (epsilon 1e-3).
  Differs from the paper: kernels start as elsewhere in this package, not inflated from an image network.

  Fields:
    width: factor of all channels; at 1, D is 1024.
    blocks: mixed blocks before, between and behind the last two pools, at most (2, 5, 2); fewer = the first ones.
    norm_momentum: share of batch norm's stored statistics that stays at each step. The published 0.999 forgets where
      they started after some 5,000 steps; take 0.9 for short runs.
    norm_frozen: batch norm uses its stored statistics in training, too.
    remat: compute each block again in the backward pass instead of storing what is inside of it.
    dtype: of the computation; parameters are float32.
  """

  width: Positive = 1.0
  blocks: tuple[CountOrZero, CountOrZero, CountOrZero] = ALL_BLOCKS
  norm_momentum: Fraction = 0.999
  norm_frozen: bool = False
  remat: bool = False
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, video: Float[Array, "B T H W C"], *, train: bool) -> dict[str, Array]:
    norm = batch_norm(
      train=train, frozen=self.norm_frozen, momentum=self.norm_momentum, epsilon=1e-3, use_scale=False, dtype=self.dtype
    )
    style = Style("full", norm, "same", width=self.width, dtype=self.dtype)
    tokens = InceptionTrunk(style, "full", blocks=self.blocks, remat=self.remat, name="trunk")(video)
    return {"tokens": tokens, "pooled": sliding_mean(tokens).astype(tokens.dtype)}
