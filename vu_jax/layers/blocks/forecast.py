"""A stack of recurrent layers that predicts the next frame, and reads its predictions where frames are not given."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange, reduce
from jaxtyping import Array, Bool, Float

from vu_jax.glossary import Count
from vu_jax.layers.blocks.patches import from_patches, to_patches
from vu_jax.layers.blocks.scheduled_sampling import Sampling
from vu_jax.layers.blocks.time_pool import Pool, TimePool
from vu_jax.layers.precision import Dtype, cast
from vu_jax.layers.recurrence.hoist import RecurrentMap
from vu_jax.layers.recurrence.over_time import cell_params, over_time

State = dict[str, Any]


class ForecastState(NamedTuple):
  """The stack's own state, and what it predicted for the frame that comes (B h w P)."""

  stack: Any
  predicted: Any

  @property
  def hidden(self) -> Array:
    """The output: hidden state of the top layer."""
    return self.stack.hidden


class ForecastCell(nn.Module):
  """One step: x = the frame where given, else the prediction of it; stack(x); the next frame = W hidden, 1x1."""

  stack: nn.Module
  channels: int
  dtype: Dtype

  @nn.compact
  def __call__(
    self, state: ForecastState, inputs: tuple[Float[Array, "B h w P"], Bool[Array, "B h w P"]]
  ) -> tuple[ForecastState, Any]:
    frame, given = inputs
    new, extras = self.stack(state.stack, jnp.where(given, frame, state.predicted))
    predicted = RecurrentMap(self.channels, (1, 1), dtype=self.dtype, name="readout")(new.hidden)
    return ForecastState(new, predicted), (predicted, extras)


class Forecaster(nn.Module):
  """What forecasters by recurrence have in common: frames in patches -> stack over time -> the next frames.

    video (B T H W C) --patches--> stack, T + future - 1 steps --> tokens (B T h w D), the top layer's hidden states
    of the T frames --pool--> pooled (B D)
    next_frames (B T H W C): after each frame, the prediction of the one behind it
    frames (B future H W C): the frames behind the clip; frames[:, 0] = next_frames[:, -1]

  All steps are one scan, and predictions are in the units of the video (no activation). A loss over all predictions,
  as usual, compares next_frames[:, :-1] with video[:, 1:], and frames with the true ones.

  Fields:
    patch: side of the squares of pixels that become channels; frames that they do not fill are padded with zeros below
      and to the right, and predictions are cut.
    future: frames to predict behind the clip; those after the first cost one step each.
    pool: `pooled` is the "mean" over space and time, that of the "last" frame, or weighted by "attention" over time.
    remat: recompute each step in the backward pass: less memory, more time.
    dtype: of the computation, "float32" or "bfloat16"; parameters are float32.
  """

  patch: Count = 4
  future: Count = 1
  pool: Pool = "mean"
  remat: bool = False
  dtype: Dtype = "float32"

  def _stack(self) -> Any:
    """The unbound cell `(state, x) -> (state, {name: (B)} or None)` with a `zero_state(batch, height, width)`."""
    raise NotImplementedError

  def __call__(
    self, video: Float[Array, "B T H W C"], *, train: bool, sampling: Sampling | None = None
  ) -> dict[str, Array]:
    """Reads the clip and forecasts.

    Args:
      video: the frames that are known.
      train: changes nothing: there is no dropout and there are no batch statistics.
      sampling: in training, the frames behind the clip and which of all frames are read; when left out, all of the
        clip are, and behind it the model reads its own predictions.

    Raises:
      ValueError: `sampling` does not have the shapes it states.
    """
    del train
    steps = video.shape[1]
    known, given = self._known(video, sampling)
    _, out = self._read(self.initial_state(len(video), *video.shape[2:4]), known, given, steps)
    predicted = out["next_frames"]
    return out | {"next_frames": predicted[:, :steps], "frames": predicted[:, steps - 1 :]}

  def stream(
    self, state: State, video: Float[Array, "B T H W C"], *, train: bool = False
  ) -> tuple[State, dict[str, Array]]:
    """Continues from `state` with the next frames; the clip in one call and frame by frame are equal.

    Returns:
      The state after the last frame, and the outputs: `tokens` and `next_frames` of these frames, `pooled` of all
      frames so far.
    """
    del train
    return self._read(state, video, jnp.ones(video.shape[:2], bool), video.shape[1])

  @nn.nowrap
  def initial_state(self, batch: int, height: int, width: int) -> State:
    """The state before the first frame, for frames of height x width [px]."""
    stack = self._stack().zero_state(batch, -(-height // self.patch), -(-width // self.patch))
    pool = TimePool(self.pool, parent=None).zero_state(batch, stack.hidden.shape[-1])
    return {"stack": stack, "pool": pool}

  def _known(self, video: Array, sampling: Sampling | None) -> tuple[Array, Array]:
    """The frames that may be read (B T+future-1 H W C), and whether they are (B T+future-1)."""
    batch, steps = video.shape[:2]
    shape, wanted = (batch, self.future, *video.shape[2:]), (batch, steps + self.future - 2)
    if sampling is None:
      seen = jnp.arange(1, steps + self.future - 1) < steps
      sampling = Sampling(jnp.zeros(shape, video.dtype), jnp.broadcast_to(seen, wanted))
    if sampling.targets.shape != shape or sampling.given.shape != wanted:
      found = tuple(sampling.targets.shape), tuple(sampling.given.shape)
      raise ValueError(
        f"sampling: targets {found[0]} and given {found[1]} must be {shape} and {wanted} for a clip of {steps} frames "
        f"and future={self.future}"
      )
    first = jnp.ones((batch, 1), bool)
    known = jnp.concatenate([video, sampling.targets[:, :-1].astype(video.dtype)], axis=1)
    return known, jnp.concatenate([first, sampling.given.astype(bool)], axis=1)

  @nn.compact
  def _read(self, state: State, video: Array, given: Array, seen: int) -> tuple[State, dict[str, Array]]:
    """Unrolls the stack over the video; `tokens` and `pooled` are those of its first `seen` frames."""
    stack, hidden, predicted, extras = self._unroll(state["stack"], video, given)
    tokens = hidden[:, :seen]
    pooled, pool = TimePool(self.pool, self.dtype, name="over_time")(tokens, state["pool"])
    out = {"tokens": tokens, "pooled": pooled, "next_frames": predicted}
    means = {name: reduce(x, "s b -> b", "mean") for name, x in (extras or {}).items()}
    return {"stack": stack, "pool": pool}, out | means

  def _unroll(self, state: Any, video: Array, given: Array) -> tuple[Any, Array, Array, Any]:
    """The stack's final state, hidden states (B S h w D), predictions (B S H W C) and the stack's extras (S B)."""
    (frames,) = cast(self.dtype, video)
    x = rearrange(to_patches(frames, self.patch), "b s h w p -> s b h w p")
    # Zeros beside the frame are always read, as they would be if the prediction were a frame of the clip.
    beside = to_patches(jnp.ones_like(frames[:1, :1]), self.patch)[0] == 0
    inputs = (x, rearrange(given, "b s -> s b 1 1 1") | beside)
    cell = ForecastCell(self._stack(), x.shape[-1], self.dtype, parent=None)
    start = ForecastState(state, jnp.zeros_like(x[0]))
    params = cell_params(self, "cell", cell, start, inputs)
    end, (hidden, (predicted, extras)) = over_time(cell, params, start, inputs, remat=self.remat)
    hidden, predicted = (rearrange(y, "s b h w c -> b s h w c") for y in (hidden, predicted))
    return end.stack, hidden, from_patches(predicted, self.patch, *video.shape[2:4]), extras
