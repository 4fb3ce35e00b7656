"""A CNN on every frame and an LSTM that chooses where in the frame to look."""

from typing import Any

import flax.linen as nn
from einops import rearrange
from jaxtyping import Array, Float

from vu_jax.glossary import Count, Fraction
from vu_jax.layers.blocks.frame_features import Frame, FrameFeatures
from vu_jax.layers.blocks.time_pool import Pool, TimePool
from vu_jax.layers.drop import Dropout
from vu_jax.layers.precision import Dtype
from vu_jax.layers.recurrence.attention_lstm import AttentionLSTM
from vu_jax.layers.recurrence.recurrent import LSTM

State = dict[str, Any]
TINY = {"stages": ((4, 2), (8, 2)), "features": 8, "attention": 8}
PRESETS: dict[str, dict[str, Any]] = {
  "visual_attention": {"frame": "inception", "features": 512, "attention": 512, "layers": 3, "dropout": 0.5},
}


class Model(nn.Module):
  """frames -> 2-D CNN -> LSTM with spatial attention (-> LSTM) per further layer -> pooling over time.

    video (B T H W 3) --CNN--> (B T h w C) --attention, LSTM--> (B T C+D), where it looked (B T h w)
    --LSTMs--> tokens (B T 1 1 D) --pool--> pooled (B D); with one layer, D is C + `features`

  Also returns `attention` (B T h w): the share of each position, which sum to 1 in every frame.

  Source: Sharma et al. 2015, "Action Recognition using Visual Attention", section 3.
  Differs from the paper: the first layer's state chooses where to look, not that of the last; scores see the frame,
  too (`AttentionLSTM`); no penalty that makes attention visit every position; the prediction is from pooled features,
  theirs the mean of those at every frame. The preset is theirs for UCF11 and Hollywood2 (`attention`
  is ours); for HMDB51 they take 1024 units.

  Fields:
    frame: the CNN, see `FrameFeatures`.
    stages: of the CNN "small": (channels, spatial stride) of each convolution.
    features: units of each LSTM.
    attention: width of the layer that scores positions.
    layers: LSTMs; the first attends.
    pool: `pooled` is the "last" output, the "mean" over time, or the mean weighted by "attention" over time.
    dropout: share of what enters each LSTM that is dropped in training.
    norm_frozen: batch norm of the CNN uses its stored statistics in training.
    remat: recompute blocks of the CNN and steps of the recurrence in the backward pass: less memory, more time.
    dtype: of the computation, "float32" or "bfloat16"; parameters are float32.
  """

  frame: Frame = "small"
  stages: tuple[tuple[Count, Count], ...] = ((16, 2), (32, 2), (64, 1))
  features: Count = 64
  attention: Count = 64
  layers: Count = 1
  pool: Pool = "mean"
  dropout: Fraction = 0.0
  norm_frozen: bool = False
  remat: bool = False
  dtype: Dtype = "float32"

  def setup(self) -> None:
    self.frames = self._frames()
    nn.share_scope(self, self.frames)  # the CNN's parameters are in `trunk`, where weights of a CNN alone fit
    self.look = self._look()
    self.above = self._above() if self.layers > 1 else None
    self.over_time = self._over_time()
    self.drop = Dropout(self.dropout)

  def __call__(self, video: Float[Array, "B T H W C"], *, train: bool) -> dict[str, Array]:
    batch, _, height, width, _ = video.shape
    return self.stream(self.initial_state(batch, height, width), video, train=train)[1]

  def stream(
    self, state: State, video: Float[Array, "B T H W C"], *, train: bool = False
  ) -> tuple[State, dict[str, Array]]:
    """Continues from `state` with the next frames; the clip in one call and frame by frame are equal.

    Returns:
      The state after the last frame, and the outputs: `tokens` and `attention` of these frames, `pooled` of all frames
      so far.
    """
    maps = self.drop(self.frames(video, train=train), deterministic=not train)
    x, look, attention = self.look(maps, state["look"])
    above = state["above"]
    if self.above is not None:
      x, above = self.above(self.drop(x, deterministic=not train), above, train=train)
    tokens = rearrange(x, "b t d -> b t 1 1 d")
    pooled, pool = self.over_time(tokens, state["pool"])
    state = {"look": look, "above": above, "pool": pool}
    return state, {"tokens": tokens, "pooled": pooled, "attention": attention}

  @nn.nowrap
  def initial_state(self, batch: int, height: int, width: int) -> State:
    """The state before the first frame; the size of the frames does not matter."""
    del height, width
    return {
      "look": self._look().zero_state(batch),
      "above": self._above().zero_state(batch) if self.layers > 1 else (),
      "pool": self._over_time().zero_state(batch, self.features + (self._frames().width if self.layers == 1 else 0)),
    }

  @nn.nowrap
  def _frames(self) -> FrameFeatures:
    return FrameFeatures(self.frame, self.stages, self.norm_frozen, self.remat, self.dtype, parent=None)

  @nn.nowrap
  def _look(self) -> AttentionLSTM:
    return AttentionLSTM(self.features, self.attention, remat=self.remat, dtype=self.dtype, parent=None)

  @nn.nowrap
  def _above(self) -> LSTM:
    shape = (self.features, self.layers - 1)
    return LSTM(*shape, dropout=self.dropout, remat=self.remat, dtype=self.dtype, parent=None)

  @nn.nowrap
  def _over_time(self) -> TimePool:
    return TimePool(self.pool, self.dtype, parent=None)
