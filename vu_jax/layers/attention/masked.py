"""Masked video modelling: which tokens are hidden, what they are to become, and the decoder that predicts it.

Tokens are named by their index in the flat grid (t h w), as integers, so that all shapes are static.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float, Int

from vu_jax.errors import UserError
from vu_jax.glossary import Count
from vu_jax.layers.attention.embed import check_divides
from vu_jax.layers.attention.positions import sin_cos_flat
from vu_jax.layers.attention.transformer import Block, run_blocks
from vu_jax.layers.dense import Dense
from vu_jax.layers.norm import layer_norm
from vu_jax.layers.precision import Dtype

# Fields of `MaskedDecoder` beside the encoders of these names in `models/videomae.py`.
DECODERS: dict[str, dict[str, Any]] = {
  "videomae_s": {"width": 192, "depth": 4, "heads": 3, "hidden": 768},
  "videomae_b": {"width": 384, "depth": 4, "heads": 6, "hidden": 1536},
  "videomae_l": {"width": 512, "depth": 12, "heads": 8, "hidden": 2048},
}


def tube_mask(
  key: Array, batch: int, grid: tuple[int, int, int], mask_frac: float
) -> tuple[Int[Array, "B M"], Int[Array, "B K"]]:
  """Hides the same places in all frames, drawn for each clip.

  Args:
    key: of the draw.
    batch: B.
    grid: (t, h, w) of the tokens.
    mask_frac: share of the places that is hidden, rounded down to whole places; 0.9 in the paper.

  Returns:
    The indices of the visible and of the masked tokens, both ascending.

  Raises:
    UserError: nothing would be hidden, or everything.

  Source: Tong et al. 2022, "VideoMAE", section 3.2, "Tube masking".
  """
  t, h, w = grid
  hidden = int(mask_frac * h * w)
  if not 0 < hidden < h * w:
    raise UserError(f"mask_frac {mask_frac} hides {hidden} of {h * w} places: must be at least 1, and not all of them")
  order = jnp.argsort(jax.random.uniform(key, (batch, h * w)), axis=-1)

  def in_all_frames(places: Int[Array, "B P"]) -> Int[Array, "B N"]:
    return (jnp.arange(t)[:, None] * (h * w) + jnp.sort(places)[:, None]).reshape(batch, -1)

  return in_all_frames(order[:, hidden:]), in_all_frames(order[:, :hidden])


def take_tokens(tokens: Float[Array, "B N *D"], index: Int[Array, "B M"]) -> Float[Array, "B M *D"]:
  """The tokens of the given indices, clip by clip."""
  return jnp.take_along_axis(tokens, index.reshape(*index.shape, *(1,) * (tokens.ndim - 2)), axis=1)


def to_tubelets(video: Float[Array, "B T H W C"], patch: tuple[int, int, int]) -> Float[Array, "B N P C"]:
  """The pixels of each token, P = kt * kh * kw of them.

  Raises:
    UserError: the patches do not fill the video exactly.
  """
  check_divides(video.shape[1:4], patch)
  kt, kh, kw = patch
  return rearrange(video, "b (t kt) (h kh) (w kw) c -> b (t h w) (kt kh kw) c", kt=kt, kh=kh, kw=kw)


def normalise_tubelets(tubelets: Float[Array, "B N P C"]) -> Float[Array, "B N Q"]:
  """What is predicted: each channel of each tubelet less its mean, over its deviation; pixels and channels flat.

  Source: Tong et al. 2022, "VideoMAE", section 3.3, and its code (deviation of P - 1, plus 1e-6).
  """
  tubelets = tubelets.astype(jnp.float32)
  deviation = tubelets.std(axis=-2, ddof=1, keepdims=True)
  return rearrange((tubelets - tubelets.mean(-2, keepdims=True)) / (deviation + 1e-6), "b n p c -> b n (p c)")


class MaskedDecoder(nn.Module):
  """Predicts the masked tokens' pixels from the visible tokens: (B M D) -> (B K features).

    visible --project, positions--> +-- a mask token with the position of each masked one --blocks, norm--> pixels

  Fields:
    features: numbers per token, kt * kh * kw * C.
    width, depth, heads, hidden: of the blocks; see `DECODERS`.
    remat: compute blocks again in the backward pass.
    dtype: of the computation; parameters are float32.

  Source: Tong et al. 2022, "VideoMAE", section 3.1, as in its code.
  """

  features: Count
  width: Count = 384
  depth: Count = 4
  heads: Count = 6
  hidden: Count = 1536
  remat: bool = False
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(
    self, tokens: Float[Array, "B M D"], visible: Int[Array, "B M"], masked: Int[Array, "B K"], *, train: bool
  ) -> Float[Array, "B K F"]:
    """Predicts.

    Args:
      tokens: what the encoder made of the visible ones.
      visible, masked: indices of both; together they are all tokens of the grid.
      train: passed on.
    """
    positions = jnp.asarray(sin_cos_flat(visible.shape[1] + masked.shape[1], self.width))
    seen = Dense(self.width, use_bias=False, dtype=self.dtype, name="project")(tokens)
    token = self.param("mask_token", nn.initializers.normal(0.02), (self.width,))
    x = jnp.concatenate([seen + positions[visible], token + positions[masked]], axis=1).astype(self.dtype)
    block = partial(Block, self.heads, self.hidden, qkv_bias="qv", dtype=self.dtype)
    x = run_blocks(block, self.depth, x, train=train, remat=self.remat)
    x = layer_norm(dtype=self.dtype)(name="norm")(x[:, visible.shape[1] :])
    return Dense(self.features, dtype=self.dtype, name="pixels")(x)
