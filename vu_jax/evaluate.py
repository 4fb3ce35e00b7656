"""EVAL: one exact pass over a split; every clip counts once, on any number of devices and hosts."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from vu_jax.metrics.sums import Sums, merge


def evaluate(
  state: Any,
  eval_step: Callable[[Any, Any], tuple[Any, Any]],
  batches: Iterable[Mapping[str, np.ndarray]],
  to_devices: Callable[[Any], Any],
  on_batch: Callable[[], None] = lambda: None,
) -> tuple[Sums, dict[str, np.ndarray]]:
  """Runs the evaluation step over all batches.

  Args:
    state: of the trained network.
    eval_step: (state, batch) -> (masked sums, outputs).
    batches: host batches; padding has mask 0.
    to_devices: host batch -> global arrays.
    on_batch: called after each batch, for progress.

  Returns:
    The merged (sum, weight) pairs, and the outputs of the real clips in the order of `index`, with `index` and
    `label` beside them.
  """
  totals, rows = [], []
  for batch in batches:
    placed = to_devices(batch)
    sums, out = eval_step(state, placed)
    keep = {k: placed[k] for k in ("index", "label", "mask")}
    totals.append(jax.device_get(sums))
    rows.append(jax.device_get({**out, **jax.tree.map(_gathered, keep)}))
    on_batch()
  columns = {k: np.concatenate([r[k] for r in rows]) for k in rows[0]}
  real = columns.pop("mask") > 0
  order = np.argsort(columns["index"][real])
  return merge(totals), {k: v[real][order] for k, v in columns.items()}


def _gathered(x: jax.Array) -> Any:
  """The whole array on this host, also when other hosts hold parts of it."""
  if x.is_fully_addressable:
    return x
  from jax.experimental import multihost_utils

  return multihost_utils.process_allgather(x, tiled=True)
