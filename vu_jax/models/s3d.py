"""S3D and S3D-G: Inception-v1 with separable convolutions in space and time, and with gates."""

from typing import Any, Literal

import flax.linen as nn
from jaxtyping import Array, Float

from vu_jax.glossary import Count, CountOrZero, Fraction, Positive
from vu_jax.layers.blocks.inception import ALL_BLOCKS, Gate, InceptionTrunk, Kind, Style, sliding_mean
from vu_jax.layers.gates import global_mean
from vu_jax.layers.norm import batch_norm
from vu_jax.layers.precision import Dtype

TINY = {"width": 1 / 16, "blocks": (1, 0, 0), "gate": "plain"}
PRESETS: dict[str, dict[str, Any]] = {
  "s3d": {},
  "s3dg": {"gate": "plain"},
  "s3dg_slim": {"variant": "slim", "gate": "plain"},
  "s3dg_mmv": {"variant": "mmv", "gate": "bias", "norm_momentum": 0.9},
}


class Model(nn.Module):
  """Inception-v1 whose 3x3 convolutions see space, then time.

    video (B T H W C) --7x7x7 /2, pool, 1x1x1, 3x3x3, pool--> 2 mixed blocks --pool--> 5 --pool--> 2
    --> tokens (B T/8 H/32 W/32 D); pooled (B D) = the mean over sliding windows of 2x7x7 tokens

  Any number of frames and any size; published weights expect at least 13 frames of 209x209 px, so that the last window
  has its 2x7x7 tokens (9 of 193x193 with TensorFlow's padding).

  Source: Xie et al. 2018, "Rethinking spatiotemporal feature learning", on separable convolutions (S3D) and on feature
    gating (S3D-G).
  Differs from the paper: see `variant`; kernels start as elsewhere in this package.

  Fields:
    variant: whose network.
      "torchvision": all convolutions separable, symmetric padding, batch norm with epsilon 1e-3.
      "slim": the authors' code. A full 3-D convolution as stem, TensorFlow's padding, batch norm without a factor, and
        a bias instead of a norm behind the temporal convolutions. There they start as the identity, here they do not.
      "mmv": DeepMind's MMV. A full 3-D convolution as stem, TensorFlow's padding, batch norm with epsilon 1e-5;
        `pooled` is the plain mean.
    gate: S3D-G lets the clip's mean gate the channels of every branch and of the last convolution before the blocks;
      "plain" as the authors have it, "bias" with a bias, as MMV has it.
    stem_frames: that the first convolution sees; 7 in the papers, while 3 is the default of the authors' code.
    width: factor of all channels; at 1, D is 1024.
    blocks: mixed blocks before, between and behind the last two pools, at most (2, 5, 2); fewer = the first ones.
    norm_momentum: share of batch norm's stored statistics that stays at each step. The published 0.999 forgets where
      they started after some 5,000 steps; take 0.9 for short runs.
    norm_frozen: batch norm uses its stored statistics in training, too.
    remat: compute each block again in the backward pass instead of storing what is inside of it.
    dtype: of the computation; parameters are float32.
  """

  variant: Literal["torchvision", "slim", "mmv"] = "torchvision"
  gate: Gate = "none"
  stem_frames: Count = 7
  width: Positive = 1.0
  blocks: tuple[CountOrZero, CountOrZero, CountOrZero] = ALL_BLOCKS
  norm_momentum: Fraction = 0.999
  norm_frozen: bool = False
  remat: bool = False
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, video: Float[Array, "B T H W C"], *, train: bool) -> dict[str, Array]:
    stem: Kind = "separable" if self.variant == "torchvision" else "full"
    tokens = InceptionTrunk(self._style(train), stem, self.stem_frames, self.blocks, self.remat, name="trunk")(video)
    pooled = global_mean(tokens) if self.variant == "mmv" else sliding_mean(tokens)
    return {"tokens": tokens, "pooled": pooled.astype(tokens.dtype)}

  @nn.nowrap
  def _style(self, train: bool) -> Style:
    slim = self.variant == "slim"
    norm = batch_norm(
      train=train,
      frozen=self.norm_frozen,
      momentum=self.norm_momentum,
      epsilon=1e-5 if self.variant == "mmv" else 1e-3,
      use_scale=not slim,
      dtype=self.dtype,
    )
    padding: Literal["symmetric", "same"] = "symmetric" if self.variant == "torchvision" else "same"
    return Style("separable", norm, padding, self.gate, temporal_norm=not slim, width=self.width, dtype=self.dtype)
