"""A CNN stem and stacked ConvLSTMs or ConvGRUs: motion through recurrence on feature maps."""

from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from vu_jax.glossary import Count
from vu_jax.layers.blocks.recurrent_maps import ConvCell, Fuse, RecurrentMaps
from vu_jax.layers.blocks.time_pool import Pool, TimePool
from vu_jax.layers.precision import Dtype

State = dict[str, Any]
TINY = {"stem": ((4, 2),), "hidden": (4, 8), "neck": (8,)}


class Model(nn.Module):
  """frames -> CNN stem -> ConvLSTM, then (stride-2 convolution -> ConvLSTM) per further layer -> CNN neck -> mean.

    video (B T H W 3) --stem--> (B T H/s W/s C) --ConvLSTM--> (B T H/s W/s D1) --stride 2, ConvLSTM--> ...
    --neck--> tokens (B T h w D); pooled (B D) = their mean over space and time

  Source: Shi et al. 2015, "Convolutional LSTM Network", section 3.1; for `cell` "gru" and the recurrence at several
  resolutions, Ballas et al. 2016, "Delving Deeper into Convolutional Networks", sections 3.1 and 3.2.
  Differs from the papers: classifies instead of forecasting, so each layer halves the resolution and no decoder
  follows; no peepholes; group norm between layers. Ballas et al. recur on the layers of a pre-trained VGG.

  Fields:
    stem: (channels, spatial stride) of each stem convolution.
    hidden: channels of each recurrent layer.
    neck: channels of each stride-2 convolution behind them; it sees how motions lie to each other in the frame.
    kernel: side of the recurrent kernels [positions].
    pool: `pooled` is the "mean" of tokens over time, that of the "last" frame only, or weighted by "attention".
    cell: "lstm" (ConvLSTM) or "gru" (ConvGRU).
    fuse: the neck reads the "last" recurrent layer, or "all" of them on the last one's grid.
    forget_bias: of the ConvLSTMs' forget gates at the start: per frame memory keeps 73 % with 1, 27 % with -1.
    remat: recompute each step of the recurrence in the backward pass: less memory, more time.
    dtype: of the computation, "float32" or "bfloat16"; parameters are float32.
  """

  stem: tuple[tuple[Count, Count], ...] = ((16, 2),)
  hidden: tuple[Count, ...] = (16, 32)
  neck: tuple[Count, ...] = (64,)
  kernel: Count = 3
  pool: Pool = "mean"
  cell: ConvCell = "lstm"
  fuse: Fuse = "last"
  forget_bias: float = 1.0
  remat: bool = False
  dtype: Dtype = "float32"

  def setup(self) -> None:
    self.maps = self._maps()
    nn.share_scope(self, self.maps)  # parameters are named trunk, recurrent_0, ... without another level
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
    del train  # no dropout, no batch statistics
    tokens, maps = self.maps(video, state["maps"])
    pooled, pool = self.over_time(tokens, state["pool"])
    return {"maps": maps, "pool": pool}, {"tokens": tokens, "pooled": pooled}

  @nn.nowrap
  def initial_state(self, batch: int, height: int, width: int) -> State:
    """The state before the first frame, for frames of height x width [px]."""
    maps = self._maps()
    return {
      "maps": maps.zero_state(batch, height, width),
      "pool": self._over_time().zero_state(batch, maps.width),
    }

  @nn.nowrap
  def _maps(self) -> RecurrentMaps:
    shape = (self.stem, self.hidden, self.neck, self.kernel)
    return RecurrentMaps(*shape, self.cell, self.fuse, self.forget_bias, self.remat, self.dtype, parent=None)

  @nn.nowrap
  def _over_time(self) -> TimePool:
    return TimePool(self.pool, self.dtype, parent=None)
