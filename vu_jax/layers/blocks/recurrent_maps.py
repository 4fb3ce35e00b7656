"""A CNN stem, stacked ConvLSTMs or ConvGRUs, a CNN neck: the part that models with recurrence on maps share."""

from typing import Any, Literal, TypeAlias

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vu_jax.layers.blocks.cnn import FrameStage, FrameTrunk
from vu_jax.layers.convolution.pool import avg_pool
from vu_jax.layers.precision import Dtype
from vu_jax.layers.recurrence.recurrent import ConvGRU, ConvLSTM, Recurrent

ConvCell: TypeAlias = Literal["lstm", "gru"]
Fuse: TypeAlias = Literal["last", "all"]
State = tuple[Any, ...]  # the carry of each recurrent layer


class RecurrentMaps(nn.Module):
  """`(B T H W C) -> (B T h w D)`: stem -> recurrent layer (-> stride-2 convolution -> recurrent layer)* -> neck.

  Fields:
    stem: (channels, spatial stride) of each stem convolution.
    hidden: channels of each recurrent layer.
    neck: channels of each stride-2 convolution behind them; it sees how motions lie to each other in the frame.
    kernel: side of the recurrent kernels [positions].
    cell: "lstm" (ConvLSTM) or "gru" (ConvGRU).
    fuse: the neck reads the "last" recurrent layer, or "all" of them, averaged to the last one's grid and concatenated:
      fast and slow motions, fine and coarse, side by side.
    forget_bias: of the LSTMs' forget gates at the start: per frame memory keeps 73 % with 1, 27 % with -1.
    remat: recompute each step of the recurrence in the backward pass.
    dtype: of the computation; parameters are float32.
  """

  stem: tuple[tuple[int, int], ...]
  hidden: tuple[int, ...]
  neck: tuple[int, ...]
  kernel: int = 3
  cell: ConvCell = "lstm"
  fuse: Fuse = "last"
  forget_bias: float = 1.0
  remat: bool = False
  dtype: Dtype = "float32"

  def setup(self) -> None:
    self.trunk = FrameTrunk(self.stem, self.dtype)
    self.recurrent = [self._layer(d) for d in self.hidden]
    self.down = [FrameStage(d, stride=2, dtype=self.dtype) for d in self.hidden[1:]]
    self.ahead = [FrameStage(d, stride=2, dtype=self.dtype) for d in self.neck]

  def __call__(self, video: Float[Array, "B T H W C"], state: State) -> tuple[Float[Array, "B T h w D"], State]:
    """The maps of the next frames, and the state behind them."""
    x = self.trunk(video)
    maps, carries = [], []
    for i, layer in enumerate(self.recurrent):
      x = self.down[i - 1](x) if i else x
      x, carry = layer(x, state[i])
      maps.append(x)
      carries.append(carry)
    x = fused(maps) if self.fuse == "all" else x
    for stage in self.ahead:
      x = stage(x)
    return x, tuple(carries)

  @nn.nowrap
  def zero_state(self, batch: int, height: int, width: int) -> State:
    """The state before the first frame, for frames of height x width [px]."""
    carries = []
    for i, features in enumerate(self.hidden):
      for stride in [s for _, s in self.stem] if i == 0 else [2]:
        height, width = -(-height // stride), -(-width // stride)
      carries.append(self._layer(features).zero_state(batch, height, width))
    return tuple(carries)

  @property
  def width(self) -> int:
    """D, the channels of the maps."""
    if self.neck:
      return self.neck[-1]
    return sum(self.hidden) if self.fuse == "all" else self.hidden[-1]

  @nn.nowrap
  def _layer(self, features: int) -> Recurrent:
    options: dict[str, Any] = {"kernel": self.kernel, "remat": self.remat, "dtype": self.dtype, "parent": None}
    if self.cell == "gru":
      return ConvGRU(features, **options)
    return ConvLSTM(features, forget_bias=self.forget_bias, **options)


def fused(maps: list[Float[Array, "B T _h _w _D"]]) -> Float[Array, "B T h w E"]:
  """The maps concatenated on the grid of the last one; each has twice the side of the next (or one less)."""
  gathered = maps[0]
  for x in maps[1:]:
    gathered = avg_pool(gathered, (2, 2), padding="SAME", count_padding=False)
    gathered = jnp.concatenate([gathered, x], axis=-1)
  return gathered
