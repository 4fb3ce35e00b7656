"""The dtype policy of all layers.

Parameters are float32. A layer computes in its field `dtype`, "float32" or "bfloat16": it casts its inputs and
parameters to it and returns it. Sums over many terms (statistics of normalisation, softmax, averages, accumulators of
shifted products) are float32 and rounded once at the end.
"""

from typing import Literal, TypeAlias

import jax.numpy as jnp
from jaxtyping import Array

Dtype: TypeAlias = Literal["float32", "bfloat16"]


def cast(dtype: Dtype, *arrays: Array) -> tuple[Array, ...]:
  """The arrays in the dtype of the computation."""
  return tuple(jnp.asarray(a, dtype) for a in arrays)
