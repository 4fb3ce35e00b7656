"""A CNN, ConvLSTMs or ConvGRUs on its maps, then an RNN, LSTM or GRU over the frames."""

from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from vu_jax.glossary import Count, Fraction
from vu_jax.layers.blocks.frames_rnn import Cell, FramesRNN
from vu_jax.layers.blocks.recurrent_maps import ConvCell, Fuse, RecurrentMaps
from vu_jax.layers.blocks.time_pool import Pool
from vu_jax.layers.precision import Dtype

State = dict[str, Any]
TINY = {"stem": ((4, 2),), "hidden": (4, 8), "neck": (8,), "features": 8}


class Model(nn.Module):
  """frames -> CNN -> ConvLSTMs -> CNN neck -> mean over space -> recurrent layers -> pooling over time.

    video (B T H W 3) --stem, ConvLSTMs, neck--> maps (B T h w C) --mean--> (B T C) --RNN--> tokens (B T 1 1 D)
    --pool--> pooled (B D)

  Two recurrences for two scales: the one on maps follows motion from position to position, the one on vectors follows
  what happens in the picture as a whole. Also returns `maps`.

  Sources: Shi et al. 2015, "Convolutional LSTM Network", section 3.1, for the first; Donahue et al. 2015, "Long-term
  Recurrent Convolutional Networks", section 4.1, for the second. Differs from the papers: see `conv_lstm`, `cnn_rnn`.

  Fields:
    stem, hidden, neck, kernel: as in `conv_lstm`.
    conv_cell: of the recurrence on maps: "lstm" or "gru".
    fuse: the neck reads the "last" layer on maps, or "all" of them on the last one's grid.
    forget_bias: of the ConvLSTMs' forget gates at the start: per frame memory keeps 73 % with 1, 27 % with -1.
    cell: of the recurrence on vectors: "rnn", "lstm" or "gru".
    features: units of each layer on vectors; D.
    layers: layers on vectors.
    pool: `pooled` is the "last" hidden state, the "mean" over time, or the mean weighted by "attention".
    dropout: share of what enters each layer on vectors that is dropped in training.
    remat: recompute each step of both recurrences in the backward pass: less memory, more time.
    dtype: of the computation, "float32" or "bfloat16"; parameters are float32.
  """

  stem: tuple[tuple[Count, Count], ...] = ((16, 2),)
  hidden: tuple[Count, ...] = (16, 32)
  neck: tuple[Count, ...] = (64,)
  kernel: Count = 3
  conv_cell: ConvCell = "lstm"
  fuse: Fuse = "last"
  forget_bias: float = 1.0
  cell: Cell = "lstm"
  features: Count = 64
  layers: Count = 1
  pool: Pool = "last"
  dropout: Fraction = 0.0
  remat: bool = False
  dtype: Dtype = "float32"

  def setup(self) -> None:
    self.maps = self._maps()
    self.rnn = self._rnn()

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
    maps, maps_state = self.maps(video, state["maps"])
    out, rnn = self.rnn(maps, state["rnn"], train=train)
    return {"maps": maps_state, "rnn": rnn}, {**out, "maps": maps}

  @nn.nowrap
  def initial_state(self, batch: int, height: int, width: int) -> State:
    """The state before the first frame, for frames of height x width [px]."""
    return {"maps": self._maps().zero_state(batch, height, width), "rnn": self._rnn().zero_state(batch)}

  @nn.nowrap
  def _maps(self) -> RecurrentMaps:
    shape = (self.stem, self.hidden, self.neck, self.kernel)
    return RecurrentMaps(*shape, self.conv_cell, self.fuse, self.forget_bias, self.remat, self.dtype, parent=None)

  @nn.nowrap
  def _rnn(self) -> FramesRNN:
    shape = (self.cell, self.features, self.layers)
    return FramesRNN(*shape, False, self.pool, self.dropout, self.remat, self.dtype, parent=None)
