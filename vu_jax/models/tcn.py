"""A CNN on every frame, then dilated causal convolutions over the frames."""

from typing import Any

import flax.linen as nn
from einops import reduce
from jaxtyping import Array, Float

from vu_jax.glossary import Count, Fraction
from vu_jax.layers.blocks.frame_features import Frame, FrameFeatures
from vu_jax.layers.blocks.time_pool import Pool, TimePool
from vu_jax.layers.convolution.causal import CausalBlock, CausalNorm, receptive_field
from vu_jax.layers.precision import Dtype

State = dict[str, Any]
TINY = {"stages": ((4, 2), (8, 2)), "channels": (8, 8), "kernel": 2}


class Model(nn.Module):
  """frames -> 2-D CNN -> mean over space -> residual blocks of causal convolutions -> pooling over time.

    video (B T H W 3) --CNN--> (B T h w C) --mean--> (B T 1 1 C) --blocks, dilated by 1, 2, 4, ...-->
    tokens (B T 1 1 D) --pool--> pooled (B D)

  A token sees its frame and `model.receptive_field` - 1 before it.

  Sources: Bai et al. 2018, "An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence
  Modeling", section 3; on features of frames, Lea et al. 2017, "Temporal Convolutional Networks for Action Segmentation
  and Detection", the dilated one.
  Differs from the papers: one label per clip from features pooled over time; kernels start as everywhere here, not at
  a deviation of 0.01. Lea et al.'s network looks ahead, too.

  Fields:
    frame: the CNN, see `FrameFeatures`.
    stages: of the CNN "small": (channels, spatial stride) of each convolution.
    channels: of each block; the dilation doubles from block to block. The last is D.
    kernel: frames of each convolution.
    norm: "weight" (of the kernels, as in the paper) or "layer" (of the channels at each frame).
    pool: `pooled` is the "last" output, the "mean" over time, or the mean weighted by "attention".
    dropout: share of channels dropped behind each convolution in training.
    norm_frozen: batch norm of the CNN uses its stored statistics in training.
    remat: recompute blocks of the CNN in the backward pass: less memory, more time.
    dtype: of the computation, "float32" or "bfloat16"; parameters are float32.
  """

  frame: Frame = "small"
  stages: tuple[tuple[Count, Count], ...] = ((16, 2), (32, 2), (64, 2))
  channels: tuple[Count, ...] = (64, 64, 64)
  kernel: Count = 3
  norm: CausalNorm = "weight"
  pool: Pool = "last"
  dropout: Fraction = 0.0
  norm_frozen: bool = False
  remat: bool = False
  dtype: Dtype = "float32"

  def setup(self) -> None:
    self.frames = self._frames()
    nn.share_scope(self, self.frames)  # the CNN's parameters are in `trunk`, where weights of a CNN alone fit
    self.blocks = self._blocks()
    self.over_time = self._over_time()

  def __call__(self, video: Float[Array, "B T H W C"], *, train: bool) -> dict[str, Array]:
    batch, _, height, width, _ = video.shape
    return self.stream(self.initial_state(batch, height, width), video, train=train)[1]

  def stream(
    self, state: State, video: Float[Array, "B T H W C"], *, train: bool = False
  ) -> tuple[State, dict[str, Array]]:
    """Continues from `state` with the next frames; the clip in one call and frame by frame are equal.

    Returns:
      The state after the last frame, and the outputs: `tokens` of these frames, `pooled` of all frames so far.
    """
    x = reduce(self.frames(video, train=train), "b t h w c -> b t 1 1 c", "mean")
    pasts = []
    for block, past in zip(self.blocks, state["pasts"], strict=True):
      x, past = block(x, past, train=train)
      pasts.append(past)
    pooled, pool = self.over_time(x, state["pool"])
    return {"pasts": tuple(pasts), "pool": pool}, {"tokens": x, "pooled": pooled}

  @nn.nowrap
  def initial_state(self, batch: int, height: int, width: int) -> State:
    """The state before the first frame; the size of the frames does not matter."""
    del height, width
    inputs = (self._frames().width, *self.channels[:-1])
    pasts = [block.zero_pasts(batch, 1, 1, c) for block, c in zip(self._blocks(), inputs, strict=True)]
    pool = self._over_time().zero_state(batch, self.channels[-1])
    return {"pasts": tuple(pasts), "pool": pool}

  @property
  def receptive_field(self) -> int:
    """Frames that a token sees, its own included."""
    return receptive_field(self.kernel, self._dilations())

  @nn.nowrap
  def _dilations(self) -> list[int]:
    return [2**k for k in range(len(self.channels))]

  @nn.nowrap
  def _frames(self) -> FrameFeatures:
    return FrameFeatures(self.frame, self.stages, self.norm_frozen, self.remat, self.dtype, parent=None)

  @nn.nowrap
  def _blocks(self) -> list[CausalBlock]:
    options = (self.norm, self.dropout, self.dtype)
    shapes = zip(self.channels, self._dilations(), strict=True)
    return [CausalBlock(width, self.kernel, dilation, *options, parent=None) for width, dilation in shapes]

  @nn.nowrap
  def _over_time(self) -> TimePool:
    return TimePool(self.pool, self.dtype, parent=None)
