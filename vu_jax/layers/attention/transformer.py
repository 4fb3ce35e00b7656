"""The transformer block with norms in front (pre-norm), its parts, and stacks of it.

Parameters of a block: `<branch>_norm` and `<branch>` for each of its branches, such as `attention_norm`, `attention`,
`mlp_norm`, `mlp`. A stack names its blocks `block0`, `block1`, ... from the input on.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vu_jax.glossary import Count, Fraction
from vu_jax.layers.attention.attention import Lowering
from vu_jax.layers.attention.multi_head import MultiHeadAttention
from vu_jax.layers.dense import Dense
from vu_jax.layers.drop import Dropout, DropPath, depth_rates
from vu_jax.layers.norm import layer_norm
from vu_jax.layers.precision import Dtype, cast

Gelu: TypeAlias = Literal["exact", "tanh"]
# (tokens, train=...) -> what a residual branch adds to them
Branch: TypeAlias = Callable[..., Array]
# The attention branches of a block, by name and in order; given `attention(name=...)`, which makes the layers.
Form: TypeAlias = Callable[[Callable[..., MultiHeadAttention]], Mapping[str, Branch]]


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def gelu(x: Float[Array, "..."], form: Gelu = "exact") -> Float[Array, "..."]:
  """x times the share of the normal distribution that lies below x; computed in float32.

  For the backward pass only the slope is kept, in the dtype of `x`.

  Args:
    x: any shape.
    form: "exact" as in torch, or "tanh", the approximation of the original code and of ViViT.

  Source: Hendrycks & Gimpel 2016, "Gaussian error linear units", section 2.
  """
  return _GELU[form](x.astype(jnp.float32)).astype(x.dtype)


@gelu.defjvp
def _gelu_slope(form: Gelu, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
  (x,), (dx,) = primals, tangents
  wide = x.astype(jnp.float32)
  y, slope = jax.jvp(_GELU[form], (wide,), (jnp.ones_like(wide),))
  return y.astype(x.dtype), slope.astype(x.dtype) * dx


_GELU: dict[str, Callable[[Array], Array]] = {
  # With erfc, as in jax.nn.gelu, it takes 5 times as long on the CPU.
  "exact": lambda x: x * (1 + jax.lax.erf(x * 0.5**0.5)) * 0.5,
  "tanh": partial(jax.nn.gelu, approximate=True),
}


class Mlp(nn.Module):
  """Dense, GELU, dense: (... D) -> (... features); parameters `up` and `down`.

  Fields:
    hidden: width in the middle.
    features: width of the result; that of the input when left out.
    gelu: see `gelu`.
    dropout: of the middle, in training.
    dtype: of the computation; parameters are float32.
  """

  hidden: Count
  features: Count | None = None
  gelu: Gelu = "exact"
  dropout: Fraction = 0.0
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "*batch D"], *, train: bool) -> Float[Array, "*batch E"]:
    y = gelu(Dense(self.hidden, dtype=self.dtype, name="up")(x), self.gelu)
    y = Dropout(self.dropout, deterministic=not train)(y)
    return Dense(self.features or x.shape[-1], dtype=self.dtype, name="down")(y)


def all_tokens(attention: Callable[..., MultiHeadAttention]) -> Mapping[str, Branch]:
  """One branch, in which every token of a row sees all of them."""
  return {"attention": attention(name="attention")}


class Block(nn.Module):
  """x + branch(norm(x)) for the attention branches in turn and then for an MLP; the shape stays.

  Fields:
    heads: A of every attention; must divide D.
    hidden: width in the middle of the MLP.
    form: the attention branches.
    gelu: "exact", or its "tanh" approximation.
    qkv_bias: see `MultiHeadAttention`.
    dropout: in training, of what every branch adds and of the middle of the MLP.
    drop_path: rate at which a clip leaves out a branch in training.
    epsilon: added to the variance in the norms.
    lowering, dtype: see `MultiHeadAttention`.

  Source: Dosovitskiy et al. 2021, "An image is worth 16x16 words", equations 2 and 3.
  """

  heads: Count
  hidden: Count
  form: Form = all_tokens
  gelu: Gelu = "exact"
  qkv_bias: bool | Literal["qv"] = True
  dropout: Fraction = 0.0
  drop_path: Fraction = 0.0
  epsilon: float = 1e-6
  lowering: Lowering | None = None
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "B *grid D"], *, train: bool) -> Float[Array, "B *grid D"]:
    attention = partial(
      MultiHeadAttention, self.heads, qkv_bias=self.qkv_bias, lowering=self.lowering, dtype=self.dtype
    )
    mlp = Mlp(self.hidden, gelu=self.gelu, dropout=self.dropout, dtype=self.dtype, name="mlp")
    branches: dict[str, Branch] = {**self.form(attention), "mlp": mlp}
    for name, branch in branches.items():
      y = branch(layer_norm(epsilon=self.epsilon, dtype=self.dtype)(name=f"{name}_norm")(x), train=train)
      y = Dropout(self.dropout, deterministic=not train)(y)
      x = x + DropPath(self.drop_path)(y, train=train)
    return x


def run_blocks(
  block: Callable[..., nn.Module],
  depth: int,
  x: Float[Array, "B *grid D"],
  *,
  train: bool,
  drop_path: float = 0.0,
  remat: bool = False,
  first: int = 0,
) -> Float[Array, "B *grid D"]:
  """Applies `block(drop_path=..., name="block0")` and those behind it; inside of a compact method.

  Unrolled: with `nn.scan`, 12 blocks of ViViT-B and their gradient take as long to trace and compile on the CPU (5 s of
  its time each), a step takes 1.1 times as long and 1.7 times the memory (2 clips of 8x112x112: 711 MiB, not 428).

  Args:
    block: makes one.
    depth: number of blocks.
    x: tokens.
    train: passed on.
    drop_path: of the last block; the rates grow linearly from 0 at the first.
    remat: keep only the input of each block for the backward pass, and compute the rest again there.
    first: number of the first block in its name, behind another stack.
  """

  def call(module: nn.Module, x: Array) -> Array:
    return module(x, train=train)

  for i, rate in enumerate(depth_rates(drop_path, depth), start=first):
    x = (nn.remat(call) if remat else call)(block(drop_path=rate, name=f"block{i}"), x)
  return x


class ClassToken(nn.Module):
  """Puts a learned token in front of the others: (... N D) -> (... 1+N D).

  Parameters: `token` (D), and `position` (D), which is added to it, as published checkpoints have it.

  Fields:
    positioned: whether there is a `position`.
    dtype: of the result.
  """

  positioned: bool = True
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, tokens: Float[Array, "*batch N D"]) -> Float[Array, "*batch M D"]:
    width = tokens.shape[-1]
    init = nn.initializers.normal(0.02)
    token = self.param("token", init, (width,))
    if self.positioned:
      token = token + self.param("position", init, (width,))
    # Broadcast in float32, so that its gradient is summed in it.
    first = jnp.broadcast_to(token, (*tokens.shape[:-2], 1, width))
    return jnp.concatenate(cast(self.dtype, first, tokens), axis=-2)
