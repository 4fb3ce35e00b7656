"""X3D: a small depthwise network, expanded along one axis at a time from a tiny frame network."""

from functools import partial
from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from vu_jax.errors import UserError
from vu_jax.glossary import Count, Fraction, Positive
from vu_jax.layers.blocks.residual import ONE, Bottleneck, Stage, convolution, stage_rates, strided
from vu_jax.layers.convolution.conv_modules import Norm
from vu_jax.layers.dense import Dense
from vu_jax.layers.gates import global_mean
from vu_jax.layers.norm import batch_norm
from vu_jax.layers.precision import Dtype

TINY = {"depths": (2, 1), "widths": (4, 8), "features": 16}
PRESETS: dict[str, dict[str, Any]] = {
  "x3d_xs": {},  # XS, S and M are one network; their clips differ
  "x3d_s": {},
  "x3d_m": {},
  "x3d_l": {"depths": (5, 10, 25, 15)},
}


class Stem(nn.Module):
  """1x3x3 convolution of stride 2, depthwise 5x1x1 convolution, norm, ReLU: `(B T H W C) -> (B T h w features)`."""

  features: int
  norm: Norm
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, video: Float[Array, "B T H W C"]) -> Float[Array, "B T h w D"]:
    conv = partial(convolution, norm=self.norm, dtype=self.dtype)
    x = conv("full", self.features, (1, 3, 3), (1, 2, 2), name="space")(video)
    x = conv("depthwise", self.features, (5, 1, 1), name="time")(x)
    return nn.relu(self.norm(name="norm")(x))


class Model(nn.Module):
  """clip -> inverted bottlenecks with depthwise 3x3x3 convolutions -> mean -> expansion to 2048.

    video (B T H W 3) --stem--> (B T H/2 W/2 24) --four stages--> (B T H/32 W/32 192) --1x1x1--> x (B T H/32 W/32 432)
    tokens (B T H/32 W/32 2048) = relu(W x); pooled (B 2048) = relu(W mean(x))

  Time is never strided. Every second block of a stage, from the first on, has squeeze-excite.

  Source: Feichtenhofer 2020, "X3D: expanding architectures for efficient video recognition", section 3 and table 3;
    rounding of widths and the norm in each shortcut as in the authors' PySlowFast.
  Differs from the authors' code: larger frames in evaluation are averaged as a whole; theirs in windows of the
    training size, over which probabilities are averaged.

  Fields:
    depths: blocks per stage; every stage halves the resolution.
    widths: channels per stage, and of the stem (the first).
    expansion: of a block's width to that of its depthwise convolution, and of the last width to that before the mean.
    gate: ratio of squeeze-excite.
    features: D.
    norm_frozen: batch norm uses its stored statistics in training, too.
    drop_path: probability that a clip skips the last block in training; it grows linearly from 0.
    remat: compute blocks again in the backward pass, which saves memory and costs time.
    dtype: of the computation; parameters are float32.
  """

  depths: tuple[Count, ...] = (3, 5, 11, 7)
  widths: tuple[Count, ...] = (24, 48, 96, 192)
  expansion: Positive = 2.25
  gate: Positive = 1 / 16
  features: Count = 2048
  norm_frozen: bool = False
  drop_path: Fraction = 0.0
  remat: bool = False
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, video: Float[Array, "B T H W C"], *, train: bool) -> dict[str, Array]:
    if len(self.widths) != len(self.depths):
      raise UserError(f"x3d: widths must have one entry per stage, {len(self.depths)}, not {len(self.widths)}")
    norm = batch_norm(train=train, frozen=self.norm_frozen, dtype=self.dtype)
    x = Stem(self.widths[0], norm, self.dtype, name="stem")(video)
    block = partial(Bottleneck, norm=norm, window=(3, 3, 3), form="depthwise", activation=nn.silu, dtype=self.dtype)
    for i, (width, rates) in enumerate(zip(self.widths, stage_rates(self.drop_path, self.depths), strict=True)):
      blocks = strided(partial(block, width, int(self.expansion * width)), (1, 2, 2), rates)
      blocks = [partial(b, gate=0.0 if j % 2 else self.gate) for j, b in enumerate(blocks)]
      x = Stage(blocks, self.remat, name=f"stage{i + 1}")(x, train=train)
    wide = int(self.expansion * x.shape[-1])
    x = convolution("full", wide, ONE, norm=norm, dtype=self.dtype, name="conv5")(x)
    x = nn.relu(norm(name="norm5")(x))
    expand = Dense(self.features, use_bias=False, dtype=self.dtype, name="expand")
    return {"tokens": nn.relu(expand(x)), "pooled": nn.relu(expand(global_mean(x)))}
