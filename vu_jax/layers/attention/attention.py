"""Scaled dot-product attention: one function, several lowerings, one result.

Source: Vaswani et al. 2017, "Attention Is All You Need", equation 1.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, UInt32

from vu_jax.layers.attention import attention_chunked, attention_lowerings
from vu_jax.layers.attention.attention_lowerings import Inputs, Options, flash_refuses

Lowering: TypeAlias = Literal["plain", "chunked", "flash"]
RandomKey: TypeAlias = Key[Array, ""] | UInt32[Array, "2"]

LOWERINGS: dict[str, Callable[[Inputs, Options], Array]] = {
  "plain": attention_lowerings.plain,
  "chunked": attention_chunked.chunked,
  "flash": attention_lowerings.flash,
}


class Rule(NamedTuple):
  """`lowering` is taken on `backend` ("any" matches all) from `scores` (heads x queries x keys of one clip) on."""

  backend: str
  lowering: Lowering
  scores: int


# The first rule that fits wins; "flash" fits where cuDNN takes the arguments. Measured on the CPU, 12 heads of 64:
# "chunked" takes 1.0 to 1.3 times as long as "plain" for 196 tokens, 0.8 to 1.0 for 392 and 0.7 to 0.9 from 784 on.
TABLE = (
  Rule("cpu", "chunked", 2**20),
  Rule("gpu", "flash", 0),  # a guess: not measured
  Rule("any", "chunked", 2**31),  # a guess: where 4 bytes per score no longer fit beside a model
  Rule("any", "plain", 0),
)


def attend(
  q: Float[Array, "*batch N A d"],
  k: Float[Array, "*batch M A d"],
  v: Float[Array, "*batch M A d"],
  *,
  bias: Float[Array, "..."] | None = None,
  mask: Bool[Array, "..."] | None = None,
  causal: bool = False,
  causal_block: int = 1,
  scale: float | None = None,
  dropout: float = 0.0,
  dropout_key: RandomKey | None = None,
  lowering: Lowering | None = None,
) -> Float[Array, "*batch N A d"]:
  """softmax(q k^T scale + bias) v for each head, over the keys that may be seen.

  Scores and softmax are float32; the result has the dtype of `q`. A query that sees no key gets zeros, and no
  gradient flows from it. "chunked" holds the scores of a few queries at a time, in the backward pass too (Dao et al.
  2022, "FlashAttention", algorithm 4), so memory grows with the number of tokens and not with its square; it has
  reverse-mode derivatives only.

  Args:
    q, k, v: queries, keys and values; tokens before heads, as a projection yields them.
    bias: added to the scores; broadcasts to (*batch A N M). Minus infinity hides a key.
    mask: True = may be seen; broadcasts to (*batch A N M).
    causal: token i sees no token after it; needs N = M.
    causal_block: tokens that count as one moment, e.g. those of a frame; they see each other.
    scale: of the scores; 1 / sqrt(d) when left out.
    dropout: fraction of the attention weights that is dropped; the others are divided by 1 - dropout.
    dropout_key: draws them; the draw depends on the lowering.
    lowering: forces one of `LOWERINGS`; by default `TABLE` chooses.

  Raises:
    ValueError: shapes that do not broadcast, causal attention with N != M, dropout outside 0..1 or without a key, or
      a forced "flash" that cuDNN does not take.

  Source: Vaswani et al. 2017, equation 1.
  Differs from the paper: a fully masked row is zero, where the softmax is undefined.
  """
  *batch, rows, heads, width = q.shape
  keys = k.shape[-3]
  if causal and rows != keys:
    raise ValueError(f"causal attention needs as many queries as keys, not {rows} and {keys}; pass a mask instead")
  if causal and causal_block < 1:
    raise ValueError(f"causal_block {causal_block}: must be at least 1 token")
  if not 0 <= dropout < 1:
    raise ValueError(f"dropout {dropout}: must be at least 0 and below 1")
  if dropout and dropout_key is None:
    raise ValueError(f"dropout {dropout} needs a dropout_key")
  full = (*batch, heads, rows, keys)
  options = Options(
    scale=width**-0.5 if scale is None else scale, block=causal_block if causal else 0, dropout=float(dropout)
  )
  inputs = Inputs(
    *(x.reshape(-1, *x.shape[-3:]) for x in (q, k, v)),
    bias=_flat("bias", bias, full),
    mask=_flat("mask", mask, full),
    key=dropout_key if dropout else None,
  )
  backend = jax.default_backend()
  name = choose(backend, inputs, options) if lowering is None else lowering
  if name not in LOWERINGS:
    raise ValueError(f'lowering "{name}": must be one of {", ".join(LOWERINGS)}')
  if name == "flash" and (why := flash_refuses(backend, inputs, options)):
    raise ValueError(f'lowering "flash" {why}; leave lowering out or take "chunked"')
  return LOWERINGS[name](inputs, options).reshape(q.shape)


def choose(backend: str, inputs: Inputs, options: Options) -> Lowering:
  """The name of the lowering that `TABLE` picks."""
  scores = inputs.q.shape[1] * inputs.q.shape[2] * inputs.k.shape[1]
  for rule in TABLE:
    fits = rule.backend in (backend, "any") and scores >= rule.scores
    if fits and not (rule.lowering == "flash" and flash_refuses(backend, inputs, options)):
      return rule.lowering
  raise AssertionError("the last rule fits everything")


def _flat(what: str, x: Array | None, full: tuple[int, ...]) -> Array | None:
  """(1 or batch, 1 or A, 1 or N, M): leading axes become one, which is copied only when it is partly broadcast."""
  if x is None:
    return None
  if x.ndim > len(full) or any(n not in (1, m) for n, m in zip(x.shape[::-1], full[::-1], strict=False)):
    raise ValueError(f"{what} of shape {x.shape} does not broadcast to (*batch, heads, queries, keys) = {full}")
  x = x.reshape((1,) * (len(full) - x.ndim) + x.shape)
  lead = x.shape[:-3] if all(n == 1 for n in x.shape[:-3]) else full[:-3]
  x = jnp.broadcast_to(x, (*lead, *x.shape[-3:-1], full[-1]))
  return x.reshape(-1, *x.shape[-3:])
