"""A CNN stem and stacked ConvLSTMs: motion through recurrence on feature maps."""

from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from einops import reduce
from jaxtyping import Array, Float

from vu_jax.errors import UserError
from vu_jax.glossary import Count
from vu_jax.layers.cnn import FrameStage, FrameTrunk
from vu_jax.layers.recurrent import ConvLSTM

State = dict[str, Any]
TINY = {"stem": ((4, 2),), "hidden": (4, 8), "neck": (8,)}


class Model(nn.Module):
  """frames -> CNN stem -> ConvLSTM, then (stride-2 convolution -> ConvLSTM) per further layer -> CNN neck -> mean.

    video (B T H W 3) --stem--> (B T H/s W/s C) --ConvLSTM--> (B T H/s W/s D1) --stride 2, ConvLSTM--> ...
    --neck--> tokens (B T h w D); pooled (B D) = their mean over space and time

  Source: Shi et al. 2015, "Convolutional LSTM Network", section 3.1.
  Differs from the paper: classifies instead of forecasting, so each layer halves the resolution and no decoder
  follows; no peepholes; group norm between layers.

  Fields:
    stem: (channels, spatial stride) of each stem convolution.
    hidden: channels of each ConvLSTM.
    neck: channels of each stride-2 convolution behind them; it sees how motions lie to each other in the frame.
    kernel: side of the ConvLSTM kernels [positions].
    input: "frames", their "differences" to the frame before (zero at the first), or "both" as 2 C channels; differences
      show motion at once, where recurrence must first learn to, and hide still backgrounds. They need T >= 2.
    pool: `pooled` is the "mean" of tokens over time, or that of the "last" frame only.
    dtype: of the computation, "float32" or "bfloat16"; parameters are float32.
  """

  stem: tuple[tuple[Count, Count], ...] = ((16, 2),)
  hidden: tuple[Count, ...] = (16, 32)
  neck: tuple[Count, ...] = (64,)
  kernel: Count = 3
  input: Literal["frames", "differences", "both"] = "frames"
  pool: Literal["mean", "last"] = "mean"
  dtype: Literal["float32", "bfloat16"] = "float32"

  def setup(self) -> None:
    self.trunk = FrameTrunk(self.stem, self.dtype)
    self.recurrent = [ConvLSTM(d, kernel=self.kernel, dtype=self.dtype) for d in self.hidden]
    self.down = [FrameStage(d, stride=2, dtype=self.dtype) for d in self.hidden[1:]]
    self.ahead = [FrameStage(d, stride=2, dtype=self.dtype) for d in self.neck]

  def __call__(self, video: Float[Array, "B T H W C"], *, train: bool) -> dict[str, Array]:
    batch, steps, height, width, _ = video.shape
    if self.input != "frames" and steps < 2:
      raise UserError(f"conv_lstm with input='{self.input}' needs clips of at least 2 frames, not {steps}")
    return self.stream(self.initial_state(batch, height, width), video, train=train)[1]

  def stream(
    self, state: State, video: Float[Array, "B T H W C"], *, train: bool = False
  ) -> tuple[State, dict[str, Array]]:
    """Continues from `state` with the next frames; the clip in one call and frame by frame are equal.

    Returns:
      The state after the last frame, and the outputs: `tokens` of these frames, `pooled` of all frames so far.
    """
    del train  # no dropout, no batch statistics
    x, last_frame = self._input(video, state["last_frame"])
    x = self.trunk(x)
    carries = []
    for i, layer in enumerate(self.recurrent):
      x = self.down[i - 1](x) if i else x
      x, carry = layer(x, state["carries"][i])
      carries.append(carry)
    for stage in self.ahead:
      x = stage(x)
    total = state["total"] + reduce(x.astype(jnp.float32), "b t h w d -> b d", "sum") / (x.shape[2] * x.shape[3])
    steps = state["steps"] + video.shape[1]
    pooled = total / steps if self.pool == "mean" else reduce(x[:, -1], "b h w d -> b d", "mean")
    out = {"tokens": x, "pooled": pooled.astype(self.dtype)}
    return {"last_frame": last_frame, "carries": tuple(carries), "total": total, "steps": steps}, out

  @nn.nowrap
  def initial_state(self, batch: int, height: int, width: int) -> State:
    """The state before the first frame, for frames of height x width [px]."""
    carries = []
    for i, features in enumerate(self.hidden):
      for stride in [s for _, s in self.stem] if i == 0 else [2]:
        height, width = -(-height // stride), -(-width // stride)
      carries.append(ConvLSTM(features, dtype=self.dtype, parent=None).zero_state(batch, height, width))
    total = jnp.zeros((batch, (self.hidden + self.neck)[-1]), jnp.float32)
    # No frame yet: the first difference is zero, as if the first frame stood still.
    return {"last_frame": None, "carries": tuple(carries), "total": total, "steps": jnp.zeros((), jnp.int32)}

  @nn.nowrap
  def _input(self, video: Array, last_frame: Array | None) -> tuple[Array, Array | None]:
    if self.input == "frames":
      return video, None
    first = video[:, :1] if last_frame is None else last_frame
    before = jnp.concatenate([first, video[:, :-1]], axis=1)
    change = video - before
    return (change if self.input == "differences" else jnp.concatenate([video, change], axis=-1)), video[:, -1:]
