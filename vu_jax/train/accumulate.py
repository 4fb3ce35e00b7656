"""Gradient accumulation: one update from parts of a batch that are computed one after the other."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float, Key

from vu_jax.glossary import Count
from vu_jax.train.mesh import check_batch_size

Batch: TypeAlias = Mapping[str, Any]
# (params, mutable, part of the batch, key) -> the part's share of the loss, (mutable, sums)
PartLoss: TypeAlias = Callable[[Any, Any, Batch, Any], tuple[Float[Array, ""], tuple[Any, Any]]]

# Where the parts are written out instead of looped over. In a loop XLA's CPU backend computes the gradients of
# convolutions 13 times slower (three convolutions of 32 channels, four parts of 2x8x14x14: 600 ms against 47); written
# out they take almost the memory of the whole batch (four parts of 4x8x14x14: 35 MiB of 37; looped 8).
UNROLLED = ("cpu",)


def accumulated(
  loss: PartLoss,
  params: Any,
  mutable: Any,
  batch: Batch,
  key: Key[Array, ""],
  parts: Count,
  unroll: bool | None = None,
) -> tuple[Any, Any, Any]:
  """The gradient of sum_i loss(part_i), one part after the other: equal to that of the whole batch, to rounding.

  A mean over real clips is such a sum when every part's masked sum is divided by the weight of the whole batch (the
  number of real clips of a part would weigh parts with padding more):
  loss(part) = sum_b mask_b loss_b / max(sum of the batch's mask, 1).

  Not equal are networks that look at other clips of the batch: a batch norm normalises with the statistics of the
  part, and its running averages move once per part, one part after the other (`parts` times per update, as if parts
  were batches); so do losses that compare clips. Dropout draws other noise than for the whole batch.

  Args:
    loss: of one part, with its key; a pure function. Sums (metrics) are added over parts.
    params: what is differentiated.
    mutable: other collections of the network; handed from part to part.
    batch: arrays with a leading B; part i holds every `parts`-th clip from the i-th on, so that devices which hold
      consecutive clips keep their own.
    key: one part draws from it as it is, several from keys of their own.
    parts: must divide B.
    unroll: False loops over the parts, with the memory of one; True writes them out; by backend when left out.

  Returns:
    The gradient, `mutable` after the last part, and the sums.

  Raises:
    UserError: parts that do not divide the batch.
  """
  gradient = jax.grad(loss, has_aux=True)
  if parts == 1:
    return _flat(gradient(params, mutable, batch, key))
  check_batch_size(1, len(batch["mask"]), parts)

  def one(carry: tuple[Any, Any], part: tuple[Batch, Any]) -> tuple[tuple[Any, Any], Any]:
    total, mutable = carry
    grads, (mutable, sums) = gradient(params, mutable, *part)
    return (jax.tree.map(jnp.add, total, grads), mutable), sums

  split = jax.tree.map(lambda x: rearrange(x, "(b parts) ... -> parts b ...", parts=parts), dict(batch))
  start = (jax.tree.map(jnp.zeros_like, params), mutable)
  unroll = jax.default_backend() in UNROLLED if unroll is None else unroll
  # Folded first, because split(key)[i] = fold_in(key, i), and others may draw from those.
  keys = jax.random.split(jax.random.fold_in(key, parts), parts)
  (grads, mutable), sums = jax.lax.scan(one, start, (split, keys), unroll=unroll)
  return grads, mutable, jax.tree.map(lambda x: x.sum(0), sums)


def _flat(found: tuple[Any, tuple[Any, Any]]) -> tuple[Any, Any, Any]:
  grads, (mutable, sums) = found
  return grads, mutable, sums
