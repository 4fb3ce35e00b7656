"""The dtype policy of all layers.

Parameters are float32. A layer computes in its field `dtype`, "float32" or "bfloat16": it casts its inputs and
parameters to it and returns it. Sums over many terms (statistics of normalisation, softmax, averages, accumulators of
shifted products, gradients of what was broadcast) are float32 and rounded once at the end.
"""

from typing import Literal, TypeAlias

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

Dtype: TypeAlias = Literal["float32", "bfloat16"]


def cast(dtype: Dtype, *arrays: ArrayLike) -> tuple[Array, ...]:
  """The arrays in the dtype of the computation."""
  return tuple(jnp.asarray(a, dtype) for a in arrays)


def add(x: Float[Array, "..."], narrow: ArrayLike) -> Float[Array, "..."]:
  """x + narrow in the dtype of `x`, where `narrow` is broadcast.

  Computed in float32, because the gradient of `narrow` is a sum over all that it was broadcast to, and the CPU sums
  bfloat16 in bfloat16: the gradient of a bias over 16,384 positions was 42 % off.
  """
  return (x + jnp.asarray(narrow, jnp.float32)).astype(x.dtype)


def multiply(x: Float[Array, "..."], narrow: ArrayLike) -> Float[Array, "..."]:
  """x times narrow in the dtype of `x`, where `narrow` is broadcast; in float32 for the reason that `add` states."""
  return (x * jnp.asarray(narrow, jnp.float32)).astype(x.dtype)
