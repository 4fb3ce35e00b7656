"""A CNN on every frame, then an RNN, LSTM or GRU over the frames."""

from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from vu_jax.errors import UserError
from vu_jax.glossary import Count, Fraction
from vu_jax.layers.blocks.frame_features import Frame, FrameFeatures
from vu_jax.layers.blocks.frames_rnn import Cell, FramesRNN
from vu_jax.layers.blocks.time_pool import Pool
from vu_jax.layers.precision import Dtype

State = dict[str, Any]  # of `FramesRNN`
TINY = {"stages": ((4, 2), (8, 2)), "features": 8, "layers": 2}
PRESETS: dict[str, dict[str, Any]] = {
  "lrcn": {"frame": "inception", "cell": "lstm", "features": 256, "layers": 1, "pool": "mean", "dropout": 0.9},
  "beyond_short_snippets": {"frame": "inception", "cell": "lstm", "features": 512, "layers": 5, "pool": "mean"},
}


class Model(nn.Module):
  """frames -> 2-D CNN -> mean over space -> recurrent layers -> pooling over time.

    video (B T H W 3) --CNN--> (B T h w C) --mean--> (B T C) --RNN--> tokens (B T 1 1 D) --pool--> pooled (B D)

  What the CNN pools away, the recurrence never sees: of frames alone it tells apart what changes in the whole picture,
  and no motion smaller than that; differences of frames (`Net.seen`) let the CNN see motion itself.

  Sources: Donahue et al. 2015, "Long-term Recurrent Convolutional Networks" (LRCN), section 4.1; Ng et al. 2015,
  "Beyond Short Snippets", section 3.2.
  Differs from the papers: the loss is on the pooled features, theirs on the prediction at every frame (the head is
  linear, so the mean of features gives the mean of logits); the frame CNN has batch or group norm and is pooled over
  space, where LRCN reads fc6 of a CaffeNet. Presets take their recurrent part; Ng et al. weigh late frames more.

  Fields:
    frame: the CNN, see `FrameFeatures`.
    stages: of the CNN "small": (channels, spatial stride) of each convolution.
    cell: "rnn", "lstm" or "gru".
    features: units of each recurrent layer, per direction.
    layers: recurrent layers.
    bidirectional: a second cell per layer runs backwards in time; D is 2 `features`, and the model cannot stream.
    pool: `pooled` is the "last" hidden state, the "mean" over time, or the mean weighted by "attention".
    dropout: share of what enters each recurrent layer that is dropped in training.
    norm_frozen: batch norm of the CNN uses its stored statistics in training.
    remat: recompute blocks of the CNN and steps of the recurrence in the backward pass: less memory, more time.
    dtype: of the computation, "float32" or "bfloat16"; parameters are float32.
  """

  frame: Frame = "small"
  stages: tuple[tuple[Count, Count], ...] = ((16, 2), (32, 2), (64, 2))
  cell: Cell = "lstm"
  features: Count = 64
  layers: Count = 1
  bidirectional: bool = False
  pool: Pool = "last"
  dropout: Fraction = 0.0
  norm_frozen: bool = False
  remat: bool = False
  dtype: Dtype = "float32"

  def setup(self) -> None:
    self.frames = FrameFeatures(self.frame, self.stages, self.norm_frozen, self.remat, self.dtype)
    nn.share_scope(self, self.frames)  # the CNN's parameters are in `trunk`, where weights of a CNN alone fit
    self.rnn = self._rnn()

  def __call__(self, video: Float[Array, "B T H W C"], *, train: bool) -> dict[str, Array]:
    return self._run(self._rnn().zero_state(video.shape[0]), video, train)[1]

  def stream(
    self, state: State, video: Float[Array, "B T H W C"], *, train: bool = False
  ) -> tuple[State, dict[str, Array]]:
    """Continues from `state` with the next frames; the clip in one call and frame by frame are equal.

    Returns:
      The state after the last frame, and the outputs: `tokens` of these frames, `pooled` of all frames so far.

    Raises:
      UserError: the model is bidirectional.
    """
    self._check_streams()
    return self._run(state, video, train)

  @nn.nowrap
  def initial_state(self, batch: int, height: int, width: int) -> State:
    """The state before the first frame; the size of the frames does not matter."""
    del height, width
    self._check_streams()
    return self._rnn().zero_state(batch)

  def _run(self, state: State, video: Array, train: bool) -> tuple[State, dict[str, Array]]:
    out, state = self.rnn(self.frames(video, train=train), state, train=train)
    return state, out

  @nn.nowrap
  def _check_streams(self) -> None:
    if self.bidirectional:
      raise UserError(
        "cnn_rnn with bidirectional=True cannot stream: its backward half starts at the last frame; train one with "
        "bidirectional=False"
      )

  @nn.nowrap
  def _rnn(self) -> FramesRNN:
    shape = (self.cell, self.features, self.layers, self.bidirectional)
    return FramesRNN(*shape, self.pool, self.dropout, self.remat, self.dtype, parent=None)
