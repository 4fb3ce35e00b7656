"""SimVP: a CNN on every frame, a 2-D network over all frames at once, and a CNN that draws the frames to come."""

from typing import Annotated, Literal

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange, reduce
from jaxtyping import Array, Float

from vu_jax.errors import UserError
from vu_jax.glossary import Count, Fraction, Positive, Range
from vu_jax.layers.blocks.patches import pad_frames, pixel_shuffle
from vu_jax.layers.blocks.translators import GatedTranslator, InceptionTranslator
from vu_jax.layers.convolution.conv_modules import Conv2D
from vu_jax.layers.drop import depth_rates
from vu_jax.layers.initial import flat
from vu_jax.layers.norm import batch_norm
from vu_jax.layers.precision import Dtype

TINY = {"features": 4, "width": 8, "blocks": 2, "scales": 1, "window": 6, "dilation": 2, "mlp_ratio": 2.0, "future": 2}
PRESETS = {"incepu": {"translator": "incepu", "future": 10}, "gsta": {"translator": "gsta", "future": 10}}


class ConvStage(nn.Module):
  """3x3 convolution of each frame, group norm of 2 groups, SiLU; "down" halves the size, "up" doubles it.

  Up is a convolution to four times the channels and `pixel_shuffle`. OpenSTL calls it ConvSC.
  """

  features: int
  resize: Literal["keep", "down", "up"] = "keep"
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, video: Float[Array, "B T H W C"]) -> Float[Array, "B T h w D"]:
    features = self.features * (4 if self.resize == "up" else 1)
    strides = (2, 2) if self.resize == "down" else (1, 1)
    init = flat(nn.initializers.normal(0.02))
    conv = Conv2D(features, (3, 3), strides, (1, 1), kernel_init=init, dtype=self.dtype, name="conv")
    x = pixel_shuffle(conv(video), 2) if self.resize == "up" else conv(video)
    frames = rearrange(x, "b t h w c -> (b t) h w c")
    frames = nn.GroupNorm(2, epsilon=1e-5, dtype=self.dtype, name="norm")(frames)
    return rearrange(nn.silu(frames), "(b t) h w c -> b t h w c", b=len(video))


class Encoder(nn.Module):
  """`scales` times (keep, down); returns the first stage's maps at full size and the last ones."""

  features: int
  scales: int
  dtype: Dtype

  @nn.compact
  def __call__(self, video: Float[Array, "B T H W C"]) -> tuple[Float[Array, "B T H W D"], Float[Array, "B T h w D"]]:
    x = first = ConvStage(self.features, "keep", self.dtype, name="stage0")(video)
    for i in range(1, 2 * self.scales):
      x = ConvStage(self.features, "down" if i % 2 else "keep", self.dtype, name=f"stage{i}")(x)
    return first, x


class Decoder(nn.Module):
  """`scales` times (up, keep), the last stage on the sum with the encoder's first maps; a 1x1 convolution to pixels."""

  features: int
  scales: int
  channels: int
  dtype: Dtype

  @nn.compact
  def __call__(self, x: Float[Array, "B T h w D"], skip: Float[Array, "B T H W D"]) -> Float[Array, "B T H W C"]:
    last = 2 * self.scales - 1
    for i in range(last + 1):
      stage = ConvStage(self.features, "keep" if i % 2 else "up", self.dtype, name=f"stage{i}")
      x = stage(x + skip if i == last else x)
    return Conv2D(self.channels, (1, 1), dtype=self.dtype, name="readout")(x)


class Model(nn.Module):
  """Encoder per frame -> frames folded into channels -> translator -> decoder per frame.

    video (B T H W C) --encoder--> (B T h w D) --> (B 1 h w T*D) --translator--> tokens (B T h w D), of the frames to
    come; pooled (B D) = their mean over space and time
    tokens, and the encoder's first maps --decoder--> frames (B future H W C)

  One pass predicts as many frames as it reads; for more, predictions are read as the next clip, and of fewer the rest
  is cut. The number of frames is part of the parameters: a trained model reads clips of one length only. Predictions
  are in the units of the video (no activation).

  Source: Gao et al. 2022, "SimVP" (IncepU); Tan et al. 2022, "SimVP: Towards Simple yet Powerful Spatiotemporal
  Predictive Learning" (gSTA), in the form of OpenSTL (Tan et al. 2023), whose weights those of the first authors'
  repository are not.
  Differs from OpenSTL: stochastic depth grows from 0, where its first block starts at 0.01; frames of any size are
  padded with zeros to a multiple of 2^scales.

  Recipe on Moving MNIST (OpenSTL), 10 -> 10 frames of 64x64x1 scaled to 0..1: presets "incepu" and "gsta"; MSE; Adam,
  one cycle with peak 1e-3, 16 clips, 200 epochs of 10,000 drawn sequences, no stochastic depth (with 0.1 gSTA was far
  worse). Published (sums over pixels): IncepU MSE 32.15, MAE 89.05, SSIM 0.9268; gSTA 26.69, 77.19, 0.9402; after
  2,000 epochs MSE 21.15 and 15.05.

  Fields:
    translator: "gsta" (gated large windows) or "incepu" (inception blocks as a U).
    features: D, channels of encoder and decoder.
    width: channels inside of the translator.
    blocks: of the translator; of "incepu" as many in as out.
    scales: times that the encoder halves the frames.
    groups: of the convolutions of "incepu"; must divide its channels.
    window, dilation: of the depthwise convolutions of "gsta" [positions], see `GatedAttention`.
    mlp_ratio: hidden channels of the MLPs of "gsta", for each of `width`.
    drop_path: stochastic depth of the last block of "gsta"; grows linearly from 0 at the first.
    norm_frozen: batch norm ("gsta") uses its stored statistics in training, too.
    future: frames to predict behind the clip.
    remat: recompute each block of the translator in the backward pass: less memory, more time.
    dtype: of the computation, "float32" or "bfloat16"; parameters are float32.
  """

  translator: Literal["gsta", "incepu"] = "gsta"
  features: Count = 64
  width: Count = 512
  blocks: Annotated[int, Range(low=2)] = 8
  scales: Count = 2
  groups: Count = 8
  window: Count = 21
  dilation: Count = 3
  mlp_ratio: Positive = 8.0
  drop_path: Fraction = 0.0
  norm_frozen: bool = False
  future: Count = 1
  remat: bool = False
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, video: Float[Array, "B T H W C"], *, train: bool) -> dict[str, Array]:
    steps, height, width, channels = video.shape[1:]
    encoder = Encoder(self.features, self.scales, self.dtype, name="encoder")
    translator = self._translator(train, steps * self.features)
    decoder = Decoder(self.features, self.scales, channels, self.dtype, name="decoder")
    tokens, frames = [], [video]
    for _ in range(-(-self.future // steps)):
      skip, x = encoder(pad_frames(frames[-1], 2**self.scales))
      folded = translator(rearrange(x, "b t h w d -> b 1 h w (t d)"), train)
      tokens.append(rearrange(folded, "b 1 h w (t d) -> b t h w d", t=steps))
      frames.append(decoder(tokens[-1], skip)[:, :, :height, :width])
    pooled = reduce(tokens[0].astype(jnp.float32), "b t h w d -> b d", "mean").astype(self.dtype)
    return {"tokens": tokens[0], "pooled": pooled, "frames": jnp.concatenate(frames[1:], axis=1)[:, : self.future]}

  def _translator(self, train: bool, channels: int) -> nn.Module:
    if self.translator == "gsta":
      norm = batch_norm(train=train, frozen=self.norm_frozen, dtype=self.dtype)
      rates = depth_rates(self.drop_path, self.blocks)
      options = (norm, self.window, self.dilation, self.mlp_ratio)
      return GatedTranslator(self.width, rates, *options, self.remat, self.dtype, name="translator")
    for what, size in (("width / 2", self.width / 2), ("frames x features", channels)):
      if size % self.groups:
        raise UserError(f"simvp: {what} = {size:g} must be a multiple of groups = {self.groups}")
    return InceptionTranslator(self.width, self.blocks, self.groups, self.remat, self.dtype, name="translator")
