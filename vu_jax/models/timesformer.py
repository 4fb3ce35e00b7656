"""TimeSformer: a transformer over the patches of all frames that attends over time and space in turn."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange, reduce, repeat
from jaxtyping import Array, Float

from vu_jax.glossary import Count, Fraction
from vu_jax.layers.attention.embed import PatchEmbed
from vu_jax.layers.attention.positions import LearnedPositions
from vu_jax.layers.attention.space_time import attend_time
from vu_jax.layers.attention.transformer import Block, Branch, ClassToken, all_tokens, run_blocks
from vu_jax.layers.dense import Dense
from vu_jax.layers.drop import Dropout
from vu_jax.layers.norm import layer_norm
from vu_jax.layers.precision import Dtype, cast

TINY = {"width": 8, "depth": 1, "heads": 2, "hidden": 16, "patch": (1, 8, 8)}

_B = {"width": 768, "depth": 12, "heads": 12, "hidden": 3072, "patch": (1, 16, 16)}
# TimeSformer-HR and TimeSformer-L are "divided" on clips of 16x448x448 and 96x224x224.
PRESETS: dict[str, dict[str, Any]] = {
  "divided": {**_B, "form": "divided"},
  "joint": {**_B, "form": "joint"},
  "space": {**_B, "form": "space"},
}


class Model(nn.Module):
  """clip -> patches of every frame -> transformer -> class token.

    "divided"  each block attends over time (same place, all frames), then over space (the frame and the class token)
    "joint"    all patches of the clip and the class token see each other
    "space"    each frame alone, with a class token of its own; `pooled` is their mean: blind to the order of frames

    video (B T H W 3) --patches, positions--> (B t h w D) --blocks, norm--> tokens (B t h w D), pooled (B D)

  In "divided" the class token takes part in the attention over space of every frame, and gets the mean of the results.
  A clip of another size than the one that `init` saw gets positions that are interpolated linearly.

  Source: Bertasius et al. 2021, "Is space-time attention all you need for video understanding?", sections 3.1 and 3.2.
  Differs from the paper: stochastic depth drops a branch for a whole clip, where the code drops rows of the attention;
  the code takes the nearest position; kernels start as LeCun normal draws.

  Fields:
    width: D.
    depth: number of blocks.
    heads: A; must divide the width.
    hidden: width in the middle of the MLPs.
    patch: (frames, rows, columns) of a patch; must divide the clip.
    form: see above.
    dropout: in training, of embedded patches and of what every branch adds.
    drop_path: probability that a clip skips a branch of the last block in training; it grows linearly from 0.
    remat: compute blocks again in the backward pass, which saves memory and costs time.
    dtype: of the computation; parameters are float32.
  """

  width: Count = 768
  depth: Count = 12
  heads: Count = 12
  hidden: Count = 3072
  patch: tuple[Count, Count, Count] = (1, 16, 16)
  form: Literal["divided", "joint", "space"] = "divided"
  dropout: Fraction = 0.0
  drop_path: Fraction = 0.0
  remat: bool = False
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, video: Float[Array, "B T H W C"], *, train: bool) -> dict[str, Array]:
    x = self._embed(video, train)
    t, h, w = x.shape[1:4]
    row = "b t (h w) d" if self.form == "space" else "b (t h w) d"
    x = ClassToken(dtype=self.dtype, name="class_token")(rearrange(x, f"b t h w d -> {row}"))
    block = partial(
      Block,
      self.heads,
      self.hidden,
      partial(time_then_space, (t, h, w), self.dtype) if self.form == "divided" else all_tokens,
      dropout=self.dropout,
      dtype=self.dtype,
    )
    x = run_blocks(block, self.depth, x, train=train, drop_path=self.drop_path, remat=self.remat)
    norm = layer_norm(dtype=self.dtype)(name="norm")
    pooled = reduce(x[:, :, 0], "b t d -> b d", "mean") if self.form == "space" else x[:, 0]
    tokens = norm(x[..., 1:, :]).reshape(-1, t, h, w, self.width)
    return {"tokens": tokens, "pooled": norm(pooled)}

  def _embed(self, video: Array, train: bool) -> Array:
    x = PatchEmbed(self.width, self.patch, dtype=self.dtype, name="embed")(video)
    x = LearnedPositions("space", dtype=self.dtype, name="space_positions")(x)
    if self.form != "space":
      # Zeros: at the start the model is one of images.
      x = LearnedPositions("time", nn.initializers.zeros, self.dtype, name="time_positions")(x)
    return Dropout(self.dropout, deterministic=not train)(x)


def time_then_space(
  grid: tuple[int, int, int], dtype: Dtype, attention: Callable[..., nn.Module]
) -> Mapping[str, Branch]:
  """The branches of "divided", on tokens (B 1+t*h*w D) with the class token in front: `time`, then `attention`.

  That over time ends with a further projection, `time_out`, that starts at zero: until it has learnt, each frame is
  seen alone. That over space has the name that it has in a transformer of images.
  """
  t, h, w = grid
  over_time, over_space = attention(name="time"), attention(name="attention")

  def time(x: Array, *, train: bool) -> Array:
    patches = rearrange(x[:, 1:], "b (t h w) d -> b t h w d", t=t, h=h, w=w)
    y = attend_time(partial(over_time, train=train), patches)
    y = Dense(x.shape[-1], kernel_init=nn.initializers.zeros, dtype=dtype, name="time_out")(y)
    return jnp.pad(rearrange(y, "b t h w d -> b (t h w) d"), ((0, 0), (1, 0), (0, 0)))

  def space(x: Array, *, train: bool) -> Array:
    first = repeat(x[:, :1].astype(jnp.float32), "b 1 d -> b t 1 d", t=t)  # float32 for the sum in its gradient
    frames = rearrange(x[:, 1:], "b (t n) d -> b t n d", t=t)
    y = over_space(jnp.concatenate(cast(dtype, first, frames), axis=2), train=train)
    first = reduce(y[:, :, :1], "b t 1 d -> b 1 d", "mean")
    return jnp.concatenate([first, rearrange(y[:, :, 1:], "b t n d -> b (t n) d")], axis=1)

  return {"time": time, "attention": space}
