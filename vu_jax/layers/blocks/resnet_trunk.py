"""ResNet on every frame: what frame averages, TSM and the recurrent networks on frames have in common."""

from functools import partial
from typing import Literal, TypeAlias

import flax.linen as nn
from jaxtyping import Array, Float

from vu_jax.layers.blocks.residual import ONE, BasicBlock, Block, Bottleneck, See, Stage, Stem, stage_rates, strided
from vu_jax.layers.norm import batch_norm
from vu_jax.layers.precision import Dtype

BlockName: TypeAlias = Literal["basic", "bottleneck"]
DEPTHS: dict[str, tuple[BlockName, tuple[int, ...]]] = {
  "18": ("basic", (2, 2, 2, 2)),
  "34": ("basic", (3, 4, 6, 3)),
  "50": ("bottleneck", (3, 4, 6, 3)),
  "101": ("bottleneck", (3, 4, 23, 3)),
  "152": ("bottleneck", (3, 8, 36, 3)),
}
"""Blocks of the published depths. Source: He et al. 2016, table 1."""


class ResNetTrunk(nn.Module):
  """Stem and stages: `(B T H W C) -> (B T H/32 W/32 D)` for four stages, D = `trunk_width(block, depths, width)`.

  Fields:
    block: "basic" (two 3x3) or "bottleneck" (1x1, 3x3, 1x1; four times as wide outside).
    depths: blocks of each stage; every stage but the first halves the resolution and doubles the channels.
    width: channels of the stem and of the first stage's 3x3 convolutions.
    norm_frozen: batch norm uses its stored statistics in training, too.
    drop_path: probability that a clip skips the last block in training; it grows linearly from 0.
    remat: compute blocks again in the backward pass.

  The call takes `see(i, x)`: what the residual branch of block i of each stage sees instead of its input x.

  Source: He et al. 2016, "Deep residual learning for image recognition", table 1; strides as torchvision's.
  """

  block: BlockName = "basic"
  depths: tuple[int, ...] = (2, 2, 2, 2)
  width: int = 64
  norm_frozen: bool = False
  drop_path: float = 0.0
  remat: bool = False
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(
    self, video: Float[Array, "B T H W C"], see: See | None = None, *, train: bool
  ) -> Float[Array, "B T h w D"]:
    norm = batch_norm(train=train, frozen=self.norm_frozen, dtype=self.dtype)
    x = Stem(self.width, norm, dtype=self.dtype, name="stem")(video)
    for i, rates in enumerate(stage_rates(self.drop_path, self.depths)):
      width = self.width << i
      block: Block = partial(BasicBlock, width)
      if self.block == "bottleneck":
        block = partial(Bottleneck, 4 * width, width)
      blocks = strided(partial(block, norm=norm, dtype=self.dtype), (1, 2, 2) if i else ONE, rates)
      x = Stage(blocks, self.remat, name=f"stage{i + 1}")(x, see, train=train)
    return x


def trunk_width(block: BlockName, depths: tuple[int, ...], width: int) -> int:
  """Channels behind the last stage."""
  return (4 if block == "bottleneck" else 1) * width << (len(depths) - 1)
