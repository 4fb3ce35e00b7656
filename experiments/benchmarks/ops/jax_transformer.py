"""Attention and the transformer block in JAX: with our attention, and with all scores at once."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from einops import rearrange
from jax import Array

from experiments.benchmarks.ops.case import OpCase
from vu_jax.layers.attention import attention
from vu_jax.layers.attention.attention_lowerings import Inputs, Options, flash_refuses


def plain_attend(q: Array, k: Array, v: Array) -> Array:
  scores = jnp.einsum("bnad,bmad->banm", q, k) * q.shape[-1] ** -0.5
  return jnp.einsum("banm,bmad->bnad", jax.nn.softmax(scores), v)


def _norm(x: Array, scale: Array, bias: Array) -> Array:
  wide = x.astype(jnp.float32)
  centred = wide - wide.mean(-1, keepdims=True)
  return (centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-6)).astype(x.dtype) * scale + bias


def _block(attend: Callable[..., Array], x: Array, heads: int, **p: Array) -> Array:
  """x + attention(norm(x)), then x + mlp(norm(x)) with the exact GELU."""
  qkv = _norm(x, p["norm1_scale"], p["norm1_bias"]) @ p["qkv_kernel"] + p["qkv_bias"]
  q, k, v = rearrange(qkv, "b n (three a d) -> three b n a d", three=3, a=heads)
  x = x + rearrange(attend(q, k, v), "b n a d -> b n (a d)") @ p["out_kernel"] + p["out_bias"]
  hidden = _norm(x, p["norm2_scale"], p["norm2_bias"]) @ p["up_kernel"] + p["up_bias"]
  return x + jax.nn.gelu(hidden, approximate=False) @ p["down_kernel"] + p["down_bias"]


def block(x: Array, heads: int, lowering: attention.Lowering | None = None, **params: Array) -> Array:
  return _block(partial(attention.attend, lowering=lowering), x, heads, **params)


plain_block = partial(_block, plain_attend)


def _arguments(case: OpCase) -> tuple[str, Inputs, Options]:
  """What the table of attention decides by."""
  shape = case.inputs.get("q")
  if shape is None:
    batch, tokens, width = case.inputs["x"]
    shape = (batch, tokens, case.arguments["heads"], width // case.arguments["heads"])
  tokens_like = jax.ShapeDtypeStruct(shape, jnp.float32)
  inputs = Inputs(tokens_like, tokens_like, tokens_like, None, None, None)  # type: ignore[arg-type]
  return jax.default_backend(), inputs, Options(scale=shape[-1] ** -0.5, block=0, dropout=0.0)


def _applying(case: OpCase) -> list[str]:
  refused = {"flash"} if flash_refuses(*_arguments(case)) else set()
  return [name for name in attention.LOWERINGS if name not in refused]


LOWERINGS = (_applying, lambda case: attention.choose(*_arguments(case)))
