"""3-D ResNets: R3D, MC3 and R(2+1)D; Slow, I3D and C2D on ResNet-50. They differ in which windows see time."""

import itertools
from functools import partial
from typing import Any, Literal

import flax.linen as nn
from jaxtyping import Array, Float

from vu_jax.errors import UserError
from vu_jax.glossary import Count, CountOrZero, Fraction, Positive
from vu_jax.layers.blocks.residual import BasicBlock, Block, Bottleneck, Stage, Stem, inflated, stage_rates, strided
from vu_jax.layers.convolution.conv_modules import Norm
from vu_jax.layers.convolution.pool import max_pool
from vu_jax.layers.gates import global_mean
from vu_jax.layers.norm import batch_norm
from vu_jax.layers.precision import Dtype

TINY = {"depths": (1, 1), "width": 4, "times": ((3,), (3,)), "time_strides": (1, 2), "convolution": "2+1d"}

_R34, _R50 = (3, 4, 6, 3), (3, 4, 6, 3)
_TWO_PLUS_ONE = {"convolution": "2+1d", "stem_middle": 45}
_ON_R50 = {
  "block": "bottleneck",
  "convolution": "inflated",
  "depths": _R50,
  "stem_pool": True,
  "time_strides": (1, 1, 1, 1),
}
_SLOW = {"stem_time": 1, "times": ((1,), (1,), (3,), (3,))}
PRESETS: dict[str, dict[str, Any]] = {
  "r3d_18": {},
  "r3d_34": {"depths": _R34},
  "mc3_18": {"times": ((3,), (1,), (1,), (1,)), "time_strides": (1, 1, 1, 1)},
  "r2plus1d_18": {**_TWO_PLUS_ONE, "middle": "block"},
  "r2plus1d_34": {**_TWO_PLUS_ONE, "depths": _R34, "norm_epsilon": 1e-3},
  "r2plus1d_152": {
    **_TWO_PLUS_ONE,
    "block": "bottleneck",
    "depths": (3, 8, 36, 3),
    "stem_pool": True,
    "norm_epsilon": 1e-3,
  },
  "slow_r50": {**_ON_R50, **_SLOW},
  "slow_r101": {**_ON_R50, **_SLOW, "depths": (3, 4, 23, 3)},
  "i3d_r50": {**_ON_R50, "stem_time": 5, "times": ((3,), (3, 1), (3, 1), (1, 3)), "frame_pool": 2},
  "c2d_r50": {**_ON_R50, "stem_time": 1, "times": ((1,), (1,), (1,), (1,)), "frame_pool": 2},
}


class Model(nn.Module):
  """clip -> 3-D ResNet -> mean over time and space.

    video (B T H W 3) --stem--> (B T H/2 W/2 64) --four stages--> tokens (B T/8 H/16 W/16 D) --mean--> pooled (B D)

  T/8 for time strides (1, 2, 2, 2), T for ones; the ResNet-50s have a max pool in the stem (H/32), I3D and C2D one over
  pairs of frames behind the first stage (T/2). D is 512 with basic blocks, 2048 with bottlenecks.

  Source: Tran et al. 2018, "A closer look at spatiotemporal convolutions", sections 3.2 to 3.5 and table 1 (R3D, MC3,
    R(2+1)D); Feichtenhofer et al. 2019, "SlowFast", table 1 (Slow); Wang et al. 2018, "Non-local neural networks",
    section 4 (C2D, and I3D, which is inflated in its 1x1 convolutions); time windows as in the authors' PySlowFast.
  Differs from the papers: the last norm of each block starts at zero; R(2+1)D-18 has torchvision's channels between
    space and time (`middle`).

  Fields:
    block: "basic" or "bottleneck".
    convolution: where the windows of `times` are. "full": t x 3 x 3; "2+1d": 1 x 3 x 3, then t x 1 x 1; "inflated": the
      first convolution of a bottleneck is t x 1 x 1, the second 1 x 3 x 3.
    depths: blocks per stage.
    width: channels of the first stage, which double with every further one.
    times: per stage, the frames t that the windows of its blocks see, in turn: (3, 1) is 3, 1, 3, 1, ...
    time_strides: of each stage's first block; in space it is 2 from the second stage on.
    stem_time: frames that the stem's window sees.
    stem_middle: channels between space and time in the stem; 0 = its window is full.
    stem_pool: whether the stem ends with a max pool in space.
    frame_pool: frames per window of the max pool behind the first stage.
    middle: of "2+1d", the channels between keep the parameters of the full window, for each "convolution" (as in the
      paper) or for the first one of the "block" (as in torchvision).
    norm_frozen: batch norm uses its stored statistics in training, too.
    norm_epsilon: of batch norm; 1e-3 in weights that were born in Caffe2.
    drop_path: probability that a clip skips the last block in training; it grows linearly from 0.
    remat: compute blocks again in the backward pass, which saves memory and costs time.
    dtype: of the computation; parameters are float32.
  """

  block: Literal["basic", "bottleneck"] = "basic"
  convolution: Literal["full", "2+1d", "inflated"] = "full"
  depths: tuple[Count, ...] = (2, 2, 2, 2)
  width: Count = 64
  times: tuple[tuple[Count, ...], ...] = ((3,), (3,), (3,), (3,))
  time_strides: tuple[Count, ...] = (1, 2, 2, 2)
  stem_time: Count = 3
  stem_middle: CountOrZero = 0
  stem_pool: bool = False
  frame_pool: Count = 1
  middle: Literal["convolution", "block"] = "convolution"
  norm_frozen: bool = False
  norm_epsilon: Positive = 1e-5
  drop_path: Fraction = 0.0
  remat: bool = False
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, video: Float[Array, "B T H W C"], *, train: bool) -> dict[str, Array]:
    self._check(video.shape[1])
    norm = batch_norm(train=train, frozen=self.norm_frozen, epsilon=self.norm_epsilon, dtype=self.dtype)
    window = (self.stem_time, 7, 7)
    x = Stem(self.width, norm, window, self.stem_middle, self.stem_pool, self.dtype, name="stem")(video)
    for i, rates in enumerate(stage_rates(self.drop_path, self.depths)):
      x = Stage(self._blocks(i, rates, norm), self.remat, name=f"stage{i + 1}")(x, train=train)
      if i == 0 and self.frame_pool > 1:
        x = max_pool(x, (self.frame_pool, 1, 1))
    return {"tokens": x, "pooled": global_mean(x).astype(self.dtype)}

  @nn.nowrap
  def _blocks(self, stage: int, rates: list[float], norm: Norm) -> list[Block]:
    width, times, space = self.width << stage, self.times[stage], 2 if stage else 1
    block = partial(BasicBlock, width) if self.block == "basic" else partial(Bottleneck, 4 * width, width)
    block = partial(block, norm=norm, middle=self.middle, dtype=self.dtype)
    blocks = strided(block, (self.time_strides[stage], space, space), rates)
    if self.convolution == "inflated":
      return inflated(blocks, times)
    seeing = zip(blocks, itertools.cycle(times), strict=False)
    return [partial(block, window=(t, 3, 3), form=self.convolution) for block, t in seeing]

  @nn.nowrap
  def _check(self, frames: int) -> None:
    if self.convolution == "inflated" and self.block == "basic":
      raise UserError('resnet3d: convolution="inflated" is the first one of a bottleneck: set block="bottleneck"')
    if not len(self.times) == len(self.time_strides) == len(self.depths):
      raise UserError(
        f"resnet3d: depths, times and time_strides must have one entry per stage, not {len(self.depths)}, "
        f"{len(self.times)} and {len(self.time_strides)}"
      )
    if frames < self.frame_pool:
      raise UserError(
        f"resnet3d with frame_pool={self.frame_pool} needs at least {self.frame_pool} frames, not {frames}"
      )
