"""Channel-separated networks: 3-D ResNets whose 3x3x3 windows see one channel each."""

from functools import partial
from typing import Any, Literal

import flax.linen as nn
from jaxtyping import Array, Float

from vu_jax.glossary import Count, Fraction, Positive
from vu_jax.layers.blocks.residual import ONE, Bottleneck, Stage, Stem, stage_rates, strided
from vu_jax.layers.blocks.resnet_trunk import DEPTHS
from vu_jax.layers.gates import global_mean
from vu_jax.layers.norm import batch_norm
from vu_jax.layers.precision import Dtype

TINY = {"depths": (1, 1), "width": 4, "interaction": "preserved"}
PRESETS: dict[str, dict[str, Any]] = {
  f"{short}_csn_{depth}": {"interaction": interaction, "depths": DEPTHS[depth][1]}
  for short, interaction in (("ir", "reduced"), ("ip", "preserved"))
  for depth in ("50", "101", "152")
}


class Model(nn.Module):
  """clip -> bottleneck ResNet with depthwise 3x3x3 convolutions -> mean over time and space.

    video (B T H W 3) --3x7x7/2, pool/2--> (B T H/4 W/4 64) --four stages--> tokens (B T/8 H/32 W/32 2048)
    --mean--> pooled (B 2048)

  Channels meet in the 1x1x1 convolutions alone.

  Source: Tran et al. 2019, "Video classification with channel-separated convolutional networks", section 3.
  Differs from the paper: the last norm of each block starts at zero.

  Fields:
    interaction: of channels, "reduced" (ir-CSN: the 3x3x3 convolution becomes depthwise) or "preserved" (ip-CSN: a
      1x1x1 convolution and a norm are put before it).
    depths: blocks per stage; every stage but the first halves time and space.
    width: channels of the first stage's depthwise convolutions, which double with every further one.
    norm_frozen: batch norm uses its stored statistics in training, too.
    norm_epsilon: of batch norm; 1e-3 as in the authors' weights.
    drop_path: probability that a clip skips the last block in training; it grows linearly from 0.
    remat: compute blocks again in the backward pass, which saves memory and costs time.
    dtype: of the computation; parameters are float32.
  """

  interaction: Literal["reduced", "preserved"] = "reduced"
  depths: tuple[Count, ...] = (3, 4, 6, 3)
  width: Count = 64
  norm_frozen: bool = False
  norm_epsilon: Positive = 1e-3
  drop_path: Fraction = 0.0
  remat: bool = False
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, video: Float[Array, "B T H W C"], *, train: bool) -> dict[str, Array]:
    norm = batch_norm(train=train, frozen=self.norm_frozen, epsilon=self.norm_epsilon, dtype=self.dtype)
    x = Stem(self.width, norm, (3, 7, 7), dtype=self.dtype, name="stem")(video)
    mix = self.interaction == "preserved"
    separated = partial(Bottleneck, norm=norm, window=(3, 3, 3), form="depthwise", mix=mix, dtype=self.dtype)
    for i, rates in enumerate(stage_rates(self.drop_path, self.depths)):
      width = self.width << i
      blocks = strided(partial(separated, 4 * width, width), (2, 2, 2) if i else ONE, rates)
      x = Stage(blocks, self.remat, name=f"stage{i + 1}")(x, train=train)
    return {"tokens": x, "pooled": global_mean(x).astype(self.dtype)}
