"""Temporal shift module: a ResNet on frames whose blocks see some channels of the neighbouring frames."""

from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from einops import reduce
from jaxtyping import Array, Float

from vu_jax.errors import UserError
from vu_jax.glossary import Count, Fraction
from vu_jax.layers.blocks.resnet_trunk import DEPTHS, ResNetTrunk, trunk_width
from vu_jax.layers.convolution.shift import causal_shift, shifted_channels, temporal_shift
from vu_jax.layers.gates import global_mean
from vu_jax.layers.precision import Dtype

State = dict[str, Any]
TINY = {"block": "basic", "depths": (1, 2), "width": 8, "shift": "causal"}
_OFFLINE: dict[str, dict[str, Any]] = {
  f"tsm_r{depth}": {"block": DEPTHS[depth][0], "depths": DEPTHS[depth][1]} for depth in ("18", "50", "101")
}
PRESETS: dict[str, dict[str, Any]] = {
  **_OFFLINE,
  **{f"{name}_online": {**fields, "shift": "causal"} for name, fields in _OFFLINE.items()},
}


class Model(nn.Module):
  """frames -> ResNet; the residual branch of each block sees 1/8 of its channels from the frame before (or after).

    video (B T H W 3) --stem, shifted blocks--> tokens (B T H/32 W/32 D) --mean--> pooled (B D)

  The shift costs no multiplication and has no parameters: those are the frame ResNet's, whose weights fit. Networks
  with a stage of 23 blocks or more (ResNet-101) shift in every second block.

  Source: Lin et al. 2019, "TSM: temporal shift module for efficient video understanding", section 3 (residual shift,
    "blockres") and section 4 (the online network, which sees no later frame and can be streamed).
  Differs from the paper: the last norm of each block starts at zero; features are averaged, which with a linear
    classifier is the mean of the frames' logits; the online network's `pooled` is the mean of all frames so far.

  Fields:
    shift: "bidirectional" takes a share of the channels from the next frame and another one from the frame before;
      "causal" only one from the frame before.
    fraction: of a block's channels that is taken from each side; at least one channel.
    block, depths, width, norm_frozen, drop_path, remat, dtype: of the ResNet, see `resnet`.
  """

  shift: Literal["bidirectional", "causal"] = "bidirectional"
  fraction: Fraction = 1 / 8
  block: Literal["basic", "bottleneck"] = "bottleneck"
  depths: tuple[Count, ...] = (3, 4, 6, 3)
  width: Count = 64
  norm_frozen: bool = False
  drop_path: Fraction = 0.0
  remat: bool = False
  dtype: Dtype = "float32"

  def setup(self) -> None:
    self.trunk = ResNetTrunk(
      self.block, self.depths, self.width, self.norm_frozen, self.drop_path, self.remat, self.dtype
    )

  def __call__(self, video: Float[Array, "B T H W C"], *, train: bool) -> dict[str, Array]:
    if self.shift == "causal":
      return self.stream(self.initial_state(video.shape[0], *video.shape[2:4]), video, train=train)[1]

    def see(block: int, x: Array) -> Array:
      return x if block % self._every else temporal_shift(x, self.fraction)

    tokens = self.trunk(video, see, train=train)
    return {"tokens": tokens, "pooled": global_mean(tokens).astype(self.dtype)}

  def stream(
    self, state: State, video: Float[Array, "B T H W C"], *, train: bool = False
  ) -> tuple[State, dict[str, Array]]:
    """Continues from `state` with the next frames; the clip in one call and frame by frame are equal.

    Returns:
      The state after the last frame, and the outputs: `tokens` of these frames, `pooled` of all frames so far.

    Raises:
      UserError: the network is not causal.
    """
    if self.shift != "causal":
      raise UserError(f'tsm with shift="{self.shift}" sees later frames and cannot be streamed; train shift="causal"')
    before, after = iter(state["shifted"]), []

    def see(block: int, x: Array) -> Array:
      if block % self._every:
        return x
      x, last = causal_shift(x, next(before), fraction=self.fraction)
      after.append(last)
      return x

    tokens = self.trunk(video, see, train=train)
    total = state["total"] + reduce(tokens.astype(jnp.float32), "b t h w d -> b t d", "mean").sum(1)
    steps = state["steps"] + video.shape[1]
    out = {"tokens": tokens, "pooled": (total / steps).astype(self.dtype)}
    return {"shifted": tuple(after), "total": total, "steps": steps}, out

  @nn.nowrap
  def initial_state(self, batch: int, height: int, width: int) -> State:
    """The state before the first frame, for frames of height x width [px]: the channels of each block that move."""
    height, width, channels = -(-height // 4), -(-width // 4), self.width
    shifted = []
    for stage, depth in enumerate(self.depths):
      for block in range(depth):
        if block % self._every == 0:
          moved = shifted_channels(channels, self.fraction, 1)
          shifted.append(jnp.zeros((batch, height, width, moved), self.dtype))
        if block == 0:
          channels = trunk_width(self.block, self.depths[: stage + 1], self.width)
          height, width = (-(-height // 2), -(-width // 2)) if stage else (height, width)
    total = jnp.zeros((batch, channels), jnp.float32)
    return {"shifted": tuple(shifted), "total": total, "steps": jnp.zeros((), jnp.int32)}

  @property
  def _every(self) -> int:
    return 2 if max(self.depths) >= 23 else 1
