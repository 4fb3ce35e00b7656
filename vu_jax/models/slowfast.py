"""SlowFast: a wide network on few frames and a thin one on many, joined by lateral connections."""

from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vu_jax.errors import UserError
from vu_jax.glossary import Count, Fraction
from vu_jax.layers.blocks.residual import ONE, Bottleneck, Stage, Stem, convolution, inflated, stage_rates, strided
from vu_jax.layers.convolution.conv_modules import Norm
from vu_jax.layers.convolution.pool import avg_pool
from vu_jax.layers.gates import global_mean
from vu_jax.layers.norm import batch_norm
from vu_jax.layers.precision import Dtype

TINY = {"depths": (1, 1), "width": 8, "alpha": 2, "beta": 4, "times_slow": ((1,), (3,)), "times_fast": ((3,), (3,))}
_R101 = {"depths": (3, 4, 23, 3)}
PRESETS: dict[str, dict[str, Any]] = {
  "r50_4x16": {"alpha": 8, "lateral_time": 5},
  "r50_8x8": {},
  "r101_8x8": {**_R101, "lateral_time": 5},
  "r101_16x8": {
    **_R101,
    "lateral_time": 5,
    "times_slow": ((1,), (1,), (3,) * 6 + (1,) * 17, (3,)),
    "times_fast": ((3,), (3,), (3,) * 6 + (1,) * 17, (3,)),
  },
}


class Lateral(nn.Module):
  """Fast features as slow ones: `(B T h w C) -> (B T/stride h w ratio*C)`, convolution over time, norm, ReLU."""

  time: int
  stride: int
  ratio: int
  norm: Norm
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, fast: Float[Array, "B T h w C"]) -> Float[Array, "B t h w D"]:
    width, window, strides = self.ratio * fast.shape[-1], (self.time, 1, 1), (self.stride, 1, 1)
    conv = convolution("full", width, window, strides, norm=self.norm, dtype=self.dtype, name="conv")
    return nn.relu(self.norm(name="norm")(conv(fast)))


class Model(nn.Module):
  """every alpha-th frame -> wide ResNet-50, all frames -> thin one, whose features flow to the first -> means, joined.

    video (B T H W 3), and every alpha-th frame (B T/alpha H W 3)
    slow (B T/alpha H/4 W/4 64) <-- lateral convolution over time -- fast (B T H/4 W/4 8), before each of four stages
    tokens (B T/alpha H/32 W/32 2048+256): slow ones, and fast ones averaged over alpha frames
    pooled (B 2048+256): both means

  "8x8" is 8 slow frames, 8 frames of the video apart; with alpha = 4 that is a clip of 32 frames, 2 apart.

  Source: Feichtenhofer et al. 2019, "SlowFast networks for video recognition", section 3 and table 1; the lateral
    convolutions as in the authors' PySlowFast.
  Differs from the authors' code: slow frames are 0, alpha, 2 alpha, ... as in the paper; theirs lie at rounded even
    places from the first frame to the last. Larger frames in evaluation are averaged as a whole; theirs in windows of
    7x7 positions, over which probabilities are averaged.

  Fields:
    alpha: fast frames per slow frame.
    beta: how many times as wide the slow pathway is (1 / beta in the paper).
    lateral_time: frames that a lateral convolution sees; it has `lateral_ratio` times the channels of its input.
    depths: blocks per stage, of both pathways.
    width: channels of the slow stem; must be a multiple of beta.
    times_slow, times_fast: per stage, the frames that the first convolutions of its blocks see, in turn.
    stem_fast_time: frames that the fast stem sees; the slow one sees 1.
    norm_frozen: batch norm uses its stored statistics in training, too.
    drop_path: probability that a clip skips the last block in training; it grows linearly from 0.
    remat: compute blocks again in the backward pass, which saves memory and costs time.
    dtype: of the computation; parameters are float32.
  """

  alpha: Count = 4
  beta: Count = 8
  lateral_time: Count = 7
  lateral_ratio: Count = 2
  depths: tuple[Count, ...] = (3, 4, 6, 3)
  width: Count = 64
  times_slow: tuple[tuple[Count, ...], ...] = ((1,), (1,), (3,), (3,))
  times_fast: tuple[tuple[Count, ...], ...] = ((3,), (3,), (3,), (3,))
  stem_fast_time: Count = 5
  norm_frozen: bool = False
  drop_path: Fraction = 0.0
  remat: bool = False
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, video: Float[Array, "B T H W C"], *, train: bool) -> dict[str, Array]:
    self._check()
    norm = batch_norm(train=train, frozen=self.norm_frozen, dtype=self.dtype)
    stem = partial(Stem, norm=norm, dtype=self.dtype)
    lateral = partial(Lateral, self.lateral_time, self.alpha, self.lateral_ratio, norm, self.dtype)
    slow = stem(self.width, name="slow_stem")(video[:, :: self.alpha])
    fast = stem(self.width // self.beta, window=(self.stem_fast_time, 7, 7), name="fast_stem")(video)
    for i, rates in enumerate(stage_rates(self.drop_path, self.depths)):
      slow = jnp.concatenate([slow, lateral(name=f"lateral{i + 1}")(fast)], axis=-1)
      slow = self._stage("slow", i, rates, norm)(slow, train=train)
      fast = self._stage("fast", i, rates, norm)(fast, train=train)
    pooled = jnp.concatenate([global_mean(slow), global_mean(fast)], axis=-1)
    return {"tokens": jnp.concatenate([slow, self._slowed(fast)], axis=-1), "pooled": pooled.astype(self.dtype)}

  @nn.nowrap
  def _stage(self, pathway: Literal["slow", "fast"], stage: int, rates: list[float], norm: Norm) -> Stage:
    slow = pathway == "slow"
    width = (self.width if slow else self.width // self.beta) << stage
    blocks = strided(partial(Bottleneck, 4 * width, width, norm, dtype=self.dtype), (1, 2, 2) if stage else ONE, rates)
    blocks = inflated(blocks, (self.times_slow if slow else self.times_fast)[stage])
    return Stage(blocks, self.remat, name=f"{pathway}_stage{stage + 1}")

  @nn.nowrap
  def _slowed(self, fast: Float[Array, "B T h w C"]) -> Float[Array, "B t h w C"]:
    """Means of alpha frames; the last one of what is left over."""
    over = -fast.shape[1] % self.alpha
    window = (self.alpha, 1, 1)
    return avg_pool(fast, window, window, ((0, over), (0, 0), (0, 0)), count_padding=False)

  @nn.nowrap
  def _check(self) -> None:
    if self.width % self.beta:
      raise UserError(f"slowfast: width = {self.width} must be a multiple of beta = {self.beta}")
    for name, times in (("times_slow", self.times_slow), ("times_fast", self.times_fast)):
      if len(times) != len(self.depths):
        raise UserError(f"slowfast: {name} must have one entry per stage, {len(self.depths)}, not {len(times)}")
