"""ViViT: a transformer over tubelets, in the four forms of its paper."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import flax.linen as nn
from einops import rearrange, reduce
from jaxtyping import Array, Float

from vu_jax.glossary import Count, Fraction
from vu_jax.layers.attention.embed import PatchEmbed
from vu_jax.layers.attention.positions import LearnedPositions
from vu_jax.layers.attention.space_time import SpaceTimeAttention, attend_space, attend_time
from vu_jax.layers.attention.transformer import Block, Branch, ClassToken, Form, all_tokens, run_blocks
from vu_jax.layers.drop import Dropout
from vu_jax.layers.norm import layer_norm
from vu_jax.layers.precision import Dtype

TINY = {"width": 8, "depth": 1, "heads": 2, "hidden": 16, "patch": (1, 8, 8)}

_B = {"width": 768, "depth": 12, "heads": 12, "hidden": 3072, "patch": (2, 16, 16)}
_L = {"width": 1024, "depth": 24, "heads": 16, "hidden": 4096, "patch": (2, 16, 16)}
PRESETS: dict[str, dict[str, Any]] = {
  "b16x2": {**_B, "form": "joint"},
  "b16x2_fe": {**_B, "form": "factorised_encoder", "time_depth": 4},
  "b16x2_fsa": {**_B, "form": "factorised_self_attention"},
  "b16x2_fdp": {**_B, "form": "factorised_dot_product"},
  "l16x2": {**_L, "form": "joint"},
  "l16x2_fe4": {**_L, "form": "factorised_encoder", "time_depth": 4},  # of the paper's ablations
  "l16x2_fe": {**_L, "form": "factorised_encoder", "time_depth": 24},  # of the published weights
}


class Model(nn.Module):
  """clip -> tubelets -> transformer -> class token, or mean of the tokens.

    "joint" (model 1)                      class token and all tubelets see each other
    "factorised_encoder" (model 2)         a transformer for each frame of tubelets; another over their class tokens
    "factorised_self_attention" (model 3)  each block attends over space, then over time
    "factorised_dot_product" (model 4)     half of the heads attend over space, half over time

    video (B T H W 3) --tubelets, positions--> (B t h w D) --blocks, norm--> tokens (B t h w D), pooled (B D)

  `pooled` is the class token; of models 3 and 4, which have none, the mean of the tokens. Of model 2, `tokens` are
  those of the first transformer, which see their own frame of tubelets only, and `frames` (B t D) those of the second.
  A clip of another size than the one that `init` saw gets positions that are interpolated linearly.

  Source: Arnab et al. 2021, "ViViT", sections 3.2 and 3.3; the norms' epsilon and tanh GELU as in the authors' code.
  Differs from the paper: kernels start as LeCun normal draws when not taken from an image model; each class token has a
  position, as in the code.

  Fields:
    width: D.
    depth: number of blocks, of model 2 in the first transformer.
    heads: A; must divide the width, of model 4 twice.
    hidden: width in the middle of the MLPs.
    patch: (frames, rows, columns) of a tubelet; must divide the clip.
    form: see above.
    time_depth: of model 2, blocks of the second transformer; they are numbered on behind those of the first.
    dropout: in training, of embedded tubelets and of what every branch adds.
    drop_path: probability that a clip skips a branch of the last block in training; it grows linearly from 0.
    remat: compute blocks again in the backward pass, which saves memory and costs time.
    dtype: of the computation; parameters are float32.
  """

  width: Count = 768
  depth: Count = 12
  heads: Count = 12
  hidden: Count = 3072
  patch: tuple[Count, Count, Count] = (2, 16, 16)
  form: Literal["joint", "factorised_encoder", "factorised_self_attention", "factorised_dot_product"] = "joint"
  time_depth: Count = 4
  dropout: Fraction = 0.0
  drop_path: Fraction = 0.0
  remat: bool = False
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, video: Float[Array, "B T H W C"], *, train: bool) -> dict[str, Array]:
    x = PatchEmbed(self.width, self.patch, dtype=self.dtype, name="embed")(video)
    if self.form == "factorised_encoder":
      return self._two_encoders(x, train)
    x = self._placed("positions", "joint", x, train)
    if self.form == "joint":
      tokens = self._with_class("class_token", rearrange(x, "b t h w d -> b (t h w) d"))
      tokens = self._norm("norm", self._run(tokens, all_tokens, self.depth, train))
      return {"tokens": tokens[:, 1:].reshape(x.shape), "pooled": tokens[:, 0]}
    form = space_then_time if self.form == "factorised_self_attention" else self._half_the_heads
    tokens = self._norm("norm", self._run(x, form, self.depth, train))
    return {"tokens": tokens, "pooled": reduce(tokens, "b t h w d -> b d", "mean")}

  def _two_encoders(self, x: Array, train: bool) -> dict[str, Array]:
    grid = x.shape
    x = rearrange(self._placed("space_positions", "space", x, train), "b t h w d -> b t (h w) d")
    x = self._run(self._with_class("space_class_token", x), all_tokens, self.depth, train)
    x = self._norm("space_norm", x)
    frames = rearrange(x[:, :, 0], "b t d -> b t 1 1 d")
    frames = rearrange(self._placed("time_positions", "time", frames, train), "b t 1 1 d -> b t d")
    frames = self._with_class("time_class_token", frames)
    frames = self._norm("norm", self._run(frames, all_tokens, self.time_depth, train, first=self.depth))
    return {"tokens": x[:, :, 1:].reshape(grid), "frames": frames[:, 1:], "pooled": frames[:, 0]}

  def _placed(self, name: str, form: Any, x: Array, train: bool) -> Array:
    x = LearnedPositions(form, dtype=self.dtype, name=name)(x)
    return Dropout(self.dropout, deterministic=not train)(x)

  def _with_class(self, name: str, tokens: Array) -> Array:
    return ClassToken(dtype=self.dtype, name=name)(tokens)

  def _norm(self, name: str, x: Array) -> Array:
    return layer_norm(dtype=self.dtype)(name=name)(x)

  def _run(self, x: Array, form: Form, depth: int, train: bool, first: int = 0) -> Array:
    block = partial(Block, self.heads, self.hidden, form, gelu="tanh", dropout=self.dropout, dtype=self.dtype)
    return run_blocks(block, depth, x, train=train, drop_path=self.drop_path, remat=self.remat, first=first)

  @nn.nowrap
  def _half_the_heads(self, attention: Callable[..., nn.Module]) -> Mapping[str, Branch]:
    del attention  # it has its own
    return {"attention": SpaceTimeAttention("factorised", self.heads, dtype=self.dtype, name="attention")}


def space_then_time(attention: Callable[..., nn.Module]) -> Mapping[str, Branch]:
  """`attention` over the tokens of each frame, then `time` over those at each place (equations 4 and 5 of the paper).

  The first has the name that it has in a transformer of images.
  """

  def over(attend: Callable[..., Array], layer: nn.Module) -> Branch:
    return lambda x, *, train: attend(partial(layer, train=train), x)

  space, time = over(attend_space, attention(name="attention")), over(attend_time, attention(name="time"))
  return {"attention": space, "time": time}
