"""ResNet on every frame, averaged over time: the strongest network that cannot see order."""

from typing import Any, Literal

import flax.linen as nn
from jaxtyping import Array, Float

from vu_jax.glossary import Count, Fraction
from vu_jax.layers.blocks.resnet_trunk import DEPTHS, ResNetTrunk
from vu_jax.layers.gates import global_mean
from vu_jax.layers.precision import Dtype

TINY = {"depths": (1, 1), "width": 8}
PRESETS: dict[str, dict[str, Any]] = {
  f"resnet{depth}": {"block": block, "depths": depths} for depth, (block, depths) in DEPTHS.items()
}


class Model(nn.Module):
  """frames -> ResNet -> mean over space and time.

    video (B T H W 3) --7x7/2, pool/2--> (B T H/4 W/4 64) --four stages--> tokens (B T H/32 W/32 D)
    --mean--> pooled (B D)

  D is 512 with basic blocks, 2048 with bottlenecks.

  Source: He et al. 2016, "Deep residual learning for image recognition", table 1; frames averaged as in Wang et al.
    2016, "Temporal segment networks", section 3.1 (segmental consensus by mean).
  Differs from the paper: bottlenecks stride in their 3x3 convolution and not in the 1x1 before (torchvision's "v1.5");
    the last norm of each block starts at zero; features are averaged, which with a linear classifier is the mean of
    the frames' logits.

  Fields:
    block: "basic" (ResNet-18, -34) or "bottleneck" (-50, -101, -152).
    depths: blocks per stage.
    width: channels of the first stage, which double with every further one.
    norm_frozen: batch norm uses its stored statistics in training, too.
    drop_path: probability that a clip skips the last block in training; it grows linearly from 0.
    remat: compute blocks again in the backward pass, which saves memory and costs time.
    dtype: of the computation; parameters are float32.
  """

  block: Literal["basic", "bottleneck"] = "basic"
  depths: tuple[Count, ...] = (2, 2, 2, 2)
  width: Count = 64
  norm_frozen: bool = False
  drop_path: Fraction = 0.0
  remat: bool = False
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, video: Float[Array, "B T H W C"], *, train: bool) -> dict[str, Array]:
    tokens = ResNetTrunk(
      self.block, self.depths, self.width, self.norm_frozen, self.drop_path, self.remat, self.dtype, name="trunk"
    )(video, train=train)
    return {"tokens": tokens, "pooled": global_mean(tokens).astype(self.dtype)}
