"""Attention with all scores at once and by cuDNN, for `attention.attend`, which checks the arguments.

The pieces at the end are those that `attention_chunked` works with, too.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array


class Inputs(NamedTuple):
  """q (B N A d), k and v (B M A d); bias and mask (1 or B, 1 or A, 1 or N, M); the key of dropout."""

  q: Array
  k: Array
  v: Array
  bias: Array | None
  mask: Array | None
  key: Array | None


class Options(NamedTuple):
  """`scale` of the scores; `block`, the tokens of one moment, 0 where attention is not causal."""

  scale: float
  block: int
  dropout: float


def plain(inputs: Inputs, options: Options) -> Array:
  """All scores at once."""
  q, v = (rearrange(x, "b n a d -> b a n d") for x in (inputs.q, inputs.v))
  k = rearrange(inputs.k, "b m a d -> b a d m")
  s = masked_scores(q * options.scale, k, inputs.bias, inputs.mask, 0, options.block)
  p, total = exp_sum(s, finite(jax.lax.stop_gradient(s.max(-1))))
  if options.dropout:
    p = p * dropout_factors(inputs.key, p.shape, options.dropout)
  out = matmul("banm,bamd->band", p.astype(v.dtype), v) / nonzero(total)[..., None]
  return rearrange(out.astype(q.dtype), "b a n d -> b n a d")


def flash(inputs: Inputs, options: Options) -> Array:
  """cuDNN's fused kernel."""
  q, k, v, bias, mask, _ = inputs
  rows, keys = q.shape[1], k.shape[1]
  seen = _seen(mask, 0, rows, keys, options.block)

  def whole(x: Array | None) -> Array | None:
    return None if x is None else jnp.broadcast_to(x, jnp.broadcast_shapes(x.shape, (1, 1, rows, keys)))

  out = jax.nn.dot_product_attention(
    q,
    k,
    v,
    whole(None if bias is None else bias.astype(q.dtype)),
    whole(seen if options.block > 1 else mask),  # a block of one token is its own is_causal
    scale=options.scale,
    is_causal=options.block == 1,
    implementation="cudnn",
  )
  if mask is None or seen is None:
    return out
  # cuDNN hides with a finite number, so a row that sees nothing has to be emptied.
  return jnp.where(rearrange(seen.any(-1), "b a n -> b n a 1"), out, jnp.zeros((), out.dtype))


def flash_refuses(backend: str, inputs: Inputs, options: Options) -> str | None:
  """Why cuDNN does not take these arguments (the conditions that jax 0.10 states), None if it does."""
  q, k, v = inputs[:3]
  rows, keys, width = q.shape[1], k.shape[1], q.shape[-1]
  added = inputs.bias is not None or inputs.mask is not None or options.block > 1
  reasons = {
    f"needs a GPU, not {backend}": backend != "gpu",
    f"needs bfloat16 or float16, not {q.dtype}": q.dtype not in (jnp.bfloat16, jnp.float16),
    f"needs keys and values of {q.dtype}, not {k.dtype} and {v.dtype}": not q.dtype == k.dtype == v.dtype,
    f"needs a multiple of 8 features per head, 128 at most, not {width}": width % 8 != 0 or width > 128,
    f"knows no dropout, not {options.dropout}": options.dropout > 0,
    f"needs even token counts beside a bias or mask, not {rows} and {keys}": added and (rows % 2 or keys % 2),
  }
  return next((why for why, refused in reasons.items() if refused), None)


def masked_scores(q: Array, k: Array, bias: Array | None, mask: Array | None, start: Array | int, block: int) -> Array:
  """float32 scores of scaled queries (... N d), of which `start` is the first, and keys (... d M).

  Minus infinity where nothing may be seen.
  """
  s = matmul("...nd,...dm->...nm", q, k)
  if bias is not None:
    s = s + bias.astype(jnp.float32)
  seen = _seen(mask, start, s.shape[-2], s.shape[-1], block)
  return s if seen is None else jnp.where(seen, s, -jnp.inf)


def _seen(mask: Array | None, start: Array | int, rows: int, keys: int, block: int) -> Array | None:
  """The mask, less the future if there is a block."""
  if not block:
    return mask
  now = (start + jnp.arange(rows)) // block
  past = now[:, None] >= (jnp.arange(keys) // block)[None]
  return past if mask is None else past & mask


def exp_sum(s: Array, top: Array) -> tuple[Array, Array]:
  """exp(s - top) and its sum over the keys."""
  p = jnp.exp(s - top[..., None])
  return p, p.sum(-1)


def finite(top: Array) -> Array:
  """The largest score of a row; 0 where the row sees nothing, so that exp(-inf - 0) is 0 and not NaN."""
  return jnp.where(jnp.isfinite(top), top, 0)


def nonzero(total: Array) -> Array:
  return jnp.where(total == 0, 1, total)


def dropout_factors(key: Array | None, shape: tuple[int, ...], dropout: float) -> Array:
  """1 / (1 - dropout) where a weight is kept, else 0."""
  assert key is not None, "attend asks for it"
  return jax.random.bernoulli(key, 1 - dropout, shape) / (1 - dropout)


def matmul(pattern: str, a: Array, b: Array) -> Array:
  """An einsum that sums in float32."""
  return jnp.einsum(pattern, a, b, preferred_element_type=jnp.float32)
