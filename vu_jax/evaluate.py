"""EVAL: one exact pass over a split; every clip counts once, on any number of devices and hosts."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from vu_jax.errors import UserError
from vu_jax.metrics.sums import Sums, merge

EvalStep: TypeAlias = Callable[[Any, Any], tuple[Any, Any]]  # (state, batch) -> (masked sums, outputs)
Average: TypeAlias = Literal["probabilities", "logits"]
_AT_ONCE = 4096  # videos whose figures are computed in one call


def evaluate(
  state: Any,
  eval_step: EvalStep,
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
  for sums, row in _passed(state, eval_step, batches, to_devices, ("index", "label", "mask")):
    totals.append(sums)
    rows.append(row)
    on_batch()
  columns = {k: np.concatenate([r[k] for r in rows]) for k in rows[0]}
  real = columns.pop("mask") > 0
  order = np.argsort(columns["index"][real])
  return merge(totals), {k: v[real][order] for k, v in columns.items()}


def evaluate_views(
  state: Any,
  eval_step: EvalStep,
  batches: Iterable[Mapping[str, np.ndarray]],
  to_devices: Callable[[Any], Any],
  sums: Callable[[Any, Any], Sums],
  num_views: int,
  average: Average,
  on_batch: Callable[[], None] = lambda: None,
) -> tuple[Sums, dict[str, np.ndarray], Sums]:
  """As `evaluate`, for several views of each video, whose logits become one answer per video.

  A video's views are averaged in the order of their numbers once all have come, so that the result does not depend on
  the size of the batches or on who computed which.

  Args:
    sums: (outputs, batch) -> masked sums of the task, here over videos.
    num_views: V >= 1 views of every video.
    average: of what.

  Returns:
    The merged pairs over videos; `logits` (of the averages), `index` and `label` per video in the order of `index`;
    and the merged pairs over single views.

  Raises:
    UserError: the task gives no logits that could be averaged.
  """
  singles: list[Any] = []
  waiting: dict[int, dict[int, np.ndarray]] = {}
  answers: dict[int, tuple[int, np.ndarray]] = {}
  for single, row in _passed(state, eval_step, batches, to_devices, ("index", "label", "mask", "view")):
    if "logits" not in row:
      raise UserError("config.eval: this task has no logits to average over views; set clips = 1 and crops = 1")
    singles.append(single)
    for i in np.flatnonzero(row["mask"] > 0):
      index = int(row["index"][i])
      views = waiting.setdefault(index, {})
      views[int(row["view"][i])] = row["logits"][i]
      if len(views) == num_views:
        answers[index] = int(row["label"][i]), averaged([views[v] for v in sorted(views)], average)
        del waiting[index]
    on_batch()
  if waiting:
    raise RuntimeError(f"{len(waiting)} videos lack some of their {num_views} views")
  numbers = sorted(answers)
  columns = {
    "logits": np.stack([answers[n][1] for n in numbers]),
    "index": np.array(numbers, np.int32),
    "label": np.array([answers[n][0] for n in numbers], np.int32),
  }
  parts = [{k: v[start : start + _AT_ONCE] for k, v in columns.items()} for start in range(0, len(numbers), _AT_ONCE)]
  placed = [jax.tree.map(jnp.asarray, {**p, "mask": np.ones(len(p["index"]), np.float32)}) for p in parts]
  totals = [jax.device_get(sums(p, p)) for p in placed]
  return merge(totals), columns, merge(singles)


def averaged(logits: Sequence[Float[np.ndarray, "*P Y"]], average: Average) -> Float[np.ndarray, "*P Y"]:
  """Logits of one video from those of its views: their mean, or the logarithm of the mean probability.

  Computed in float64, given as float32.
  """
  table = np.stack(logits).astype(np.float64)
  if average == "logits":
    return table.mean(0).astype(np.float32)
  table -= table.max(-1, keepdims=True)
  logs = table - np.log(np.exp(table).sum(-1, keepdims=True))
  peak = logs.max(0)
  return (peak + np.log(np.exp(logs - peak).mean(0))).astype(np.float32)  # no probability underflows to 0


def _passed(
  state: Any,
  eval_step: EvalStep,
  batches: Iterable[Mapping[str, np.ndarray]],
  to_devices: Callable[[Any], Any],
  kept: Sequence[str],
) -> Iterator[tuple[Sums, dict[str, np.ndarray]]]:
  """Per batch: the sums, and the outputs with the `kept` keys of the batch, on the host."""
  for batch in batches:
    placed = to_devices(batch)
    sums, out = eval_step(state, placed)
    keep = {k: placed[k] for k in kept}
    yield jax.device_get(sums), jax.device_get({**out, **jax.tree.map(_gathered, keep)})


def _gathered(x: jax.Array) -> Any:
  """The whole array on this host, also when other hosts hold parts of it."""
  if x.is_fully_addressable:
    return x
  from jax.experimental import multihost_utils

  return multihost_utils.process_allgather(x, tiled=True)
