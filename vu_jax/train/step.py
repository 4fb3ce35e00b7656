"""The mathematics of training: pure functions of state and batch."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax.sharding import Mesh
from jax.typing import ArrayLike
from jaxtyping import Array

from vu_jax.backend import quick_compile
from vu_jax.glossary import Count, Fraction
from vu_jax.metrics.sums import masked
from vu_jax.train.accumulate import accumulated
from vu_jax.train.ema import start_average, update_average
from vu_jax.train.mesh import replicated, split, state_shardings

Batch = Mapping[str, Any]  # of arrays, on host or device; their shapes suffice to initialise
Alter = Callable[[Any, Batch], Batch]  # (key, batch) -> the batch that training sees
_ALTER_KEY = 1  # apart from the key that the network draws from


class TrainState(struct.PyTreeNode):
  """Everything that training changes, and the key that it draws from.

  step: steps made so far. params: `{"backbone", "head"}`. mutable: other collections of the network, such as batch
  statistics. opt_state: of optax. key: the run's key; step n draws from `fold_in(key, n)`. average: running average of
  the parameters, which evaluation uses, or None. skipped_in_a_row: last steps that changed nothing, int32.
  """

  # Any, because JAX also puts shapes, shardings and placeholders into the fields.
  step: Any
  params: Any
  mutable: Any
  opt_state: Any
  key: Any
  average: Any
  skipped_in_a_row: Any


def init_state(
  net: nn.Module, tx: optax.GradientTransformation, batch: Batch, seed: int | Array, averages: bool = False
) -> TrainState:
  """A fresh state; `batch` gives shapes only. `averages`: whether parameters are to be averaged."""
  init_key, run_key = jax.random.split(jax.random.key(seed))
  variables = dict(net.init(init_key, batch, train=False))
  params = variables.pop("params")
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    mutable=variables,
    opt_state=tx.init(params),
    key=run_key,
    average=start_average(params) if averages else None,
    skipped_in_a_row=jnp.zeros((), jnp.int32),
  )


def train_step(
  net: nn.Module,
  task: Any,
  tx: optax.GradientTransformation,
  state: TrainState,
  batch: Batch,
  alter: Alter | None = None,
  parts: Count = 1,
  ema_decay: Fraction = 0.0,
  gather: Callable[[Any], Any] = lambda params: params,
) -> tuple[TrainState, dict[str, Any]]:
  """One update on the mean loss of the batch's real clips.

  loss = sum_b mask_b loss_b / sum_b mask_b, over the global batch, as `alter` (augmentation, mixing) makes it.

  A step whose loss, gradient or new parameters are not finite is skipped: only `step` and `skipped_in_a_row` change, so
  the next one draws other noise. The learning rate follows the updates that were made.

  Args:
    parts: the batch is computed in so many parts, one after the other (`train/accumulate.py`).
    ema_decay: of the average of the parameters, where the state has one (`train/ema.py`).
    gather: makes whole arrays of parameters that lie in parts on several devices.

  Returns:
    The next state, and the step's metrics: pairs (sum, weight) of the task and of the loss parts, the gradient's
    global norm before clipping, and that of the new parameters, all (0, 0) if the step is skipped; `skipped` (0 or 1,
    1), and `skipped_in_a_row`, the number of such steps up to this one, as (n, 1).
  """
  key = jax.random.fold_in(state.key, state.step)
  if alter is not None:
    batch = alter(jax.random.fold_in(key, _ALTER_KEY), batch)
  weight = jnp.maximum(batch["mask"].sum(), 1.0)

  def loss(params: Any, mutable: Any, part: Batch, key: Any) -> tuple[Array, Any]:
    variables = {"params": gather(params), **mutable}
    out, mutable = net.apply(variables, part, train=True, mutable=list(mutable), rngs={"dropout": key})
    per_clip, terms = task.loss(out, part)
    pairs = {k: masked(v, part["mask"]) for k, v in {"objective": per_clip, **terms}.items()}
    scalars = {k: v for k, v in task.sums(out, part).items() if v[0].ndim == 0}
    return pairs["objective"][0] / weight, (mutable, {**scalars, **pairs})

  grads, mutable, sums = accumulated(loss, state.params, state.mutable, batch, key, parts)
  norm = optax.tree.norm(grads)
  updates, opt_state = tx.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  average = state.average
  if average is not None:
    average = update_average(average, params, state.step + 1, ema_decay)
  updated = state.replace(params=params, mutable=mutable, opt_state=opt_state, average=average)
  one = jnp.ones(())
  norms = {"grad_norm": (norm, one), "param_norm": (optax.tree.norm(params), one)}
  good = jnp.isfinite(jnp.stack([sums["objective"][0], norm, norms["param_norm"][0]])).all()
  return guarded(state, updated, good, {**sums, **norms})


def guarded(
  before: TrainState, after: TrainState, good: Array, metrics: Mapping[str, tuple[Array, Array]]
) -> tuple[TrainState, dict[str, Any]]:
  """`after` if the step was good, else `before`, one step on; and metrics in which a bad step has no weight."""
  fields = ("params", "mutable", "opt_state", "average")
  kept = {name: jax.tree.map(partial(jnp.where, good), getattr(after, name), getattr(before, name)) for name in fields}
  in_a_row = jnp.where(good, 0, before.skipped_in_a_row + 1)
  one = jnp.ones(())
  weighed = {k: (jnp.where(good, s, 0), jnp.where(good, w, 0)) for k, (s, w) in metrics.items()}
  counts = {"skipped": (1.0 - good, one), "skipped_in_a_row": (in_a_row.astype(jnp.float32), one)}
  return before.replace(step=before.step + 1, skipped_in_a_row=in_a_row, **kept), {**weighed, **counts}


def eval_step(
  net: nn.Module,
  task: Any,
  state: TrainState,
  batch: Batch,
  gather: Callable[[Any], Any] = lambda params: params,
) -> tuple[Any, Any]:
  """Masked sums and outputs of one batch, without dropout; by the averaged parameters where there are any."""
  params = state.params if state.average is None else state.average
  out = net.apply({"params": gather(params), **state.mutable}, batch, train=False)
  return task.sums(out, batch), out


class Steps(NamedTuple):
  """What is computed on the devices, jitted over a mesh. The state given to `train` is donated.

  init: seed -> state. train: (state, batch) -> (state, metrics). evaluate: (state, batch) -> (sums, outputs).
  shapes: of the state, with the sharding of each array, to restore a checkpoint with.
  """

  init: Any
  train: Any
  evaluate: Any
  shapes: TrainState


def compile_init(start: Callable[[Array], TrainState], places: Any) -> Callable[[ArrayLike], TrainState]:
  """Jits `start`, a function of one seed or of many, for Python's whole numbers; another seed is no other program."""
  jitted = jax.jit(start, out_shardings=places, compiler_options=quick_compile())
  return lambda seeds: jitted(np.asarray(seeds, np.int64).astype(np.uint32))


def compile_steps(
  mesh: Mesh,
  net: nn.Module,
  task: Any,
  tx: optax.GradientTransformation,
  batch: Batch,
  alter: Alter | None = None,
  parts: Count = 1,
  ema_decay: Fraction = 0.0,
  shard_min_size: int = 0,
) -> Steps:
  """The functions of this file over a mesh: the same program serves one device, many devices and many hosts.

  Args:
    batch: shapes of a global batch.
    alter, parts, ema_decay: as in `train_step`; a decay of 0 = no average.
    shard_min_size: size from which arrays of the state lie in parts, if the mesh has an axis for them.
  """
  whole, clips = replicated(mesh), split(mesh)
  gather = partial(jax.lax.with_sharding_constraint, shardings=whole) if mesh.shape["fsdp"] > 1 else lambda p: p

  def start(seed: Array) -> TrainState:
    zeros = {k: jnp.zeros(s.shape, s.dtype) for k, s in batch.items()}
    return init_state(net, tx, zeros, seed, averages=ema_decay > 0)

  shapes = jax.eval_shape(start, jax.ShapeDtypeStruct((), jnp.uint32))
  places = state_shardings(mesh, shapes, shard_min_size)
  train = partial(train_step, net, task, tx, alter=alter, parts=parts, ema_decay=ema_decay, gather=gather)
  return Steps(
    init=compile_init(start, places),
    train=jax.jit(train, in_shardings=(places, clips), out_shardings=(places, whole), donate_argnums=0),
    evaluate=jax.jit(
      partial(eval_step, net, task, gather=gather), in_shardings=(places, clips), out_shardings=(whole, whole)
    ),
    shapes=jax.tree.map(lambda s, place: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=place), shapes, places),
  )
