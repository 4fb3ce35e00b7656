"""Pairs of (sum, weight): make, merge, divide."""

from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

AnyArray = Array | np.ndarray | np.generic
Sums = Mapping[str, tuple[AnyArray, AnyArray]]  # on device or host


def masked(values: Float[Array, " B"] | Bool[Array, " B"], mask: Float[Array, " B"]) -> tuple[Array, Array]:
  """(sum over real clips, number of real clips); padding (mask 0) counts in neither, whatever its value."""
  return jnp.sum(jnp.where(mask > 0, values * mask, 0.0)), jnp.sum(mask)


def merge(parts: Iterable[Sums]) -> Sums:
  """Adds the pairs of several batches, key by key."""
  parts = list(parts)
  if not parts:
    raise ValueError("no batches to merge")
  return jax.tree.map(lambda *xs: sum(xs[1:], start=xs[0]), *parts)


def divide(totals: Sums) -> dict[str, float]:
  """sum / weight of every scalar pair; arrays (a confusion matrix) are left out. An empty pair gives nan."""
  scalars = {k: (float(s), float(w)) for k, (s, w) in totals.items() if jnp.ndim(s) == 0}
  return {k: s / w if w else float("nan") for k, (s, w) in scalars.items()}
