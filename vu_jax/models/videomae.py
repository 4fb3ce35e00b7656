"""VideoMAE: a plain transformer over tubelets with fixed positions, and the encoder of visible tubelets only."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange, reduce
from jaxtyping import Array, Float, Int

from vu_jax.errors import UserError
from vu_jax.glossary import Count, Fraction
from vu_jax.layers.attention.embed import PatchEmbed
from vu_jax.layers.attention.masked import take_tokens, to_tubelets
from vu_jax.layers.attention.positions import interpolate_positions, sin_cos_flat
from vu_jax.layers.attention.transformer import Block, run_blocks
from vu_jax.layers.norm import layer_norm
from vu_jax.layers.precision import Dtype, add

TINY = {"width": 8, "depth": 1, "heads": 2, "hidden": 16, "patch": (1, 8, 8)}

_COMMON = {"patch": (2, 16, 16), "grid": (8, 14, 14)}
PRESETS: dict[str, dict[str, Any]] = {
  "videomae_s": {**_COMMON, "width": 384, "depth": 12, "heads": 6, "hidden": 1536},
  "videomae_b": {**_COMMON, "width": 768, "depth": 12, "heads": 12, "hidden": 3072},
  "videomae_l": {**_COMMON, "width": 1024, "depth": 24, "heads": 16, "hidden": 4096},
}


class Model(nn.Module):
  """clip -> tubelets -> transformer without a class token -> mean, norm.

    video (B T H W 3) --tubelets, sinusoids--> (B t h w D) --blocks--> tokens (B t h w D) --mean, norm--> pooled (B D)

  With `visible`, for pre-training, the others are never computed, not even embedded; the result is `visible` (B M D),
  behind a norm that the whole clip does not have: the parameters are `norm` in place of `pooled_norm`.

  Source: Tong et al. 2022, "VideoMAE", section 3; fine-tuning as in its code. The decoder is in
    `layers/attention/masked.py`.
  Differs from the paper: kernels start as LeCun normal draws, of variance 1 / inputs.

  Fields:
    width: D.
    depth: number of blocks.
    heads: A; must divide the width.
    hidden: width in the middle of the MLPs.
    patch: (frames, rows, columns) of a tubelet; must divide the clip.
    grid: (t, h, w) tubelets of the clip that the sinusoids count, and are interpolated from where a clip has others;
      () = each clip its own. Set it when weights are used at another size than that of their training.
    dropout: in training, of what every branch adds.
    drop_path: probability that a clip skips a branch of the last block in training; it grows linearly from 0.
    remat: compute blocks again in the backward pass, which saves memory and costs time.
    dtype: of the computation; parameters are float32.
  """

  width: Count = 768
  depth: Count = 12
  heads: Count = 12
  hidden: Count = 3072
  patch: tuple[Count, Count, Count] = (2, 16, 16)
  grid: tuple[Count, ...] = ()
  dropout: Fraction = 0.0
  drop_path: Fraction = 0.0
  remat: bool = False
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(
    self, video: Float[Array, "B T H W C"], *, visible: Int[Array, "B M"] | None = None, train: bool
  ) -> dict[str, Array]:
    grid = tuple(n // k for n, k in zip(video.shape[1:4], self.patch, strict=True))
    positions = self._positions(grid)
    embed = PatchEmbed(self.width, self.patch, dtype=self.dtype, name="embed")
    if visible is None:
      x = rearrange(embed(video), "b t h w d -> b (t h w) d")
    else:
      # The visible tubelets one behind the other are a video, too.
      kt, kh, kw = self.patch
      seen = take_tokens(to_tubelets(video, self.patch), visible)
      x = embed(rearrange(seen, "b m (kt kh kw) c -> b (m kt) kh kw c", kt=kt, kh=kh, kw=kw))[:, :, 0, 0]
      positions = positions[visible]
    block = partial(Block, self.heads, self.hidden, qkv_bias="qv", dropout=self.dropout, dtype=self.dtype)
    x = run_blocks(block, self.depth, add(x, positions), train=train, drop_path=self.drop_path, remat=self.remat)
    norm = layer_norm(dtype=self.dtype)
    if visible is not None:
      return {"visible": norm(name="norm")(x)}
    pooled = norm(name="pooled_norm")(reduce(x, "b n d -> b d", "mean"))
    return {"tokens": x.reshape(-1, *grid, self.width), "pooled": pooled}

  @nn.nowrap
  def _positions(self, grid: tuple[int, ...]) -> Float[Array, "N D"]:
    if len(self.grid) not in (0, 3):
      raise UserError(f"videomae.grid = {self.grid}: must be 3 numbers (t, h, w) of tubelets, or ()")
    made_for = self.grid or grid
    table = sin_cos_flat(made_for[0] * made_for[1] * made_for[2], self.width)
    return interpolate_positions(jnp.asarray(table), made_for, grid)
