"""ConvLSTM encoder and forecaster: one stack reads the clip, another goes on from the states that it leaves."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

from vu_jax.glossary import Count
from vu_jax.layers.blocks.patches import from_patches, to_patches
from vu_jax.layers.blocks.time_pool import Pool, TimePool
from vu_jax.layers.convolution.conv_modules import Conv2D
from vu_jax.layers.dense import add_bias
from vu_jax.layers.precision import Dtype
from vu_jax.layers.recurrence.cells import LSTMCell, LSTMState
from vu_jax.layers.recurrence.over_time import cell_params, over_time
from vu_jax.layers.recurrence.recurrent import ConvLSTM

State = dict[str, Any]
TINY = {"hidden": (4, 6), "kernel": 3, "patch": 2, "future": 2}
PRESETS = {
  "shi_256": {"hidden": (256,), "future": 10},
  "shi_128_128": {"hidden": (128, 128), "future": 10},
  "shi_128_64_64": {"hidden": (128, 64, 64), "future": 10},
}


class FreeConvLSTM(nn.Module):
  """A ConvLSTM that reads nothing but its own state: the hidden states of the next `steps` steps (B S h w D)."""

  features: int
  kernel: int
  remat: bool
  dtype: Dtype

  @nn.compact
  def __call__(self, state: LSTMState, steps: int) -> Float[Array, "B S h w D"]:
    gates = add_bias(self, jnp.zeros((steps, *state.hidden.shape[:-1], 4 * self.features), self.dtype))
    scale, size = ConvLSTM.hidden_scale, (self.kernel, self.kernel)
    cell = LSTMCell(self.features, size, scale, peephole="channel", dtype=self.dtype, parent=None)
    params = cell_params(self, "cell", cell, state, gates)
    _, (hidden, _) = over_time(cell, params, state, gates, remat=self.remat)
    return rearrange(hidden, "s b h w d -> b s h w d")


class Model(nn.Module):
  """Patches -> encoder, stacked ConvLSTMs; its final states start the forecaster, which reads no frames.

    video (B T H W C) --patches, encoder--> tokens (B T h w D), hidden states of its top layer --pool--> pooled (B D)
    states of the encoder --forecaster, 1x1 convolution on all its layers--> frames (B future H W C)

  Predictions are in the units of the video (no activation); the paper trains their sigmoid with cross-entropy.

  Source: Shi et al. 2015, "Convolutional LSTM Network: A Machine Learning Approach for Precipitation Nowcasting",
  sections 3.1 and 3.2. The numbers of parameters are those of its table 1.
  Differs from the paper: forget gates start open (bias 1), hidden-to-hidden kernels orthogonal of scale 4; frames that
  patches do not fill are padded with zeros.

  Recipe on Moving MNIST (section 4.1), 10 -> 10 frames of 64x64x1 scaled to 0..1: preset "shi_128_64_64";
  cross-entropy; RMSProp, learning rate 1e-3, decay 0.9; early stopping; 10,000 training sequences.

  Fields:
    hidden: channels of each layer, of the encoder and of the forecaster.
    kernel: side of all convolutions but the last [positions].
    patch: side of the squares of pixels that become channels.
    future: frames to predict behind the clip.
    pool: `pooled` is the "mean" over space and time, that of the "last" frame, or weighted by "attention" over time.
    remat: recompute each step in the backward pass: less memory, more time.
    dtype: of the computation, "float32" or "bfloat16"; parameters are float32.
  """

  hidden: tuple[Count, ...] = (128, 64, 64)
  kernel: Count = 5
  patch: Count = 4
  future: Count = 1
  pool: Pool = "mean"
  remat: bool = False
  dtype: Dtype = "float32"

  def __call__(self, video: Float[Array, "B T H W C"], *, train: bool) -> dict[str, Array]:
    return self.stream(self.initial_state(len(video), *video.shape[2:4]), video, train=train)[1]

  @nn.compact
  def stream(
    self, state: State, video: Float[Array, "B T H W C"], *, train: bool = False
  ) -> tuple[State, dict[str, Array]]:
    """Continues from `state` with the next frames; the clip in one call and frame by frame are equal.

    Returns:
      The state after the last frame, and the outputs: `tokens` of these frames, `pooled` of all frames so far, and
      the `frames` that follow.
    """
    del train  # no dropout, no batch statistics
    x = patches = to_patches(video, self.patch)
    ends = []
    for k, start in enumerate(state["layers"]):
      x, end = self._layer(k, "encoder")(x, start)
      ends.append(end)
    pooled, pool = TimePool(self.pool, self.dtype, name="over_time")(x, state["pool"])
    predicted = from_patches(self._forecast(ends, patches.shape[-1]), self.patch, *video.shape[2:4])
    out = {"tokens": x, "pooled": pooled, "frames": predicted}
    return {"layers": tuple(ends), "pool": pool}, out

  def _forecast(self, starts: list[Any], channels: int) -> Float[Array, "B S h w P"]:
    lowest = FreeConvLSTM(self.hidden[0], self.kernel, self.remat, self.dtype, name="forecaster0")
    outputs = [lowest(starts[0][0], self.future)]
    for k, start in enumerate(starts[1:], start=1):
      outputs.append(self._layer(k, "forecaster")(outputs[-1], start)[0])
    return Conv2D(channels, (1, 1), dtype=self.dtype, name="readout")(jnp.concatenate(outputs, axis=-1))

  @nn.nowrap
  def initial_state(self, batch: int, height: int, width: int) -> State:
    """The state before the first frame, for frames of height x width [px]."""
    grid = (-(-height // self.patch), -(-width // self.patch))
    layers = [ConvLSTM(d, dtype=self.dtype, parent=None).zero_state(batch, *grid) for d in self.hidden]
    pool = TimePool(self.pool, parent=None).zero_state(batch, self.hidden[-1])
    return {"layers": tuple(layers), "pool": pool}

  def _layer(self, k: int, name: str) -> ConvLSTM:
    # Not unrolled on the CPU, where the gradient of five layers over ten steps took 40 s to compile.
    layer = partial(ConvLSTM, kernel=self.kernel, peephole="channel", remat=self.remat, unroll=1, dtype=self.dtype)
    return layer(self.hidden[k], name=f"{name}{k}")
