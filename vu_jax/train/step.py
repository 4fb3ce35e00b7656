"""The mathematics of training: pure functions of state and batch."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Array

from vu_jax.metrics.sums import masked
from vu_jax.train.mesh import replicated, split

Batch = Mapping[str, Any]  # of arrays, on host or device; their shapes suffice to initialise
Alter = Callable[[Any, Batch], Batch]  # (key, batch) -> the batch that training sees
_ALTER_KEY = 1  # apart from the key that the network draws from


class TrainState(struct.PyTreeNode):
  """Everything that training changes, and the key that it draws from.

  step: updates made so far. params: `{"backbone", "head"}`. mutable: other collections of the network, such as
  batch statistics. opt_state: of optax. key: the run's key; step n draws from `fold_in(key, n)`.
  """

  # Any, because JAX also puts shapes, shardings and placeholders into the fields.
  step: Any
  params: Any
  mutable: Any
  opt_state: Any
  key: Any


def init_state(net: nn.Module, tx: optax.GradientTransformation, batch: Batch, seed: int) -> TrainState:
  """A fresh state; `batch` gives shapes only."""
  init_key, run_key = jax.random.split(jax.random.key(seed))
  variables = dict(net.init(init_key, batch, train=False))
  params = variables.pop("params")
  step = jnp.zeros((), jnp.int32)
  return TrainState(step=step, params=params, mutable=variables, opt_state=tx.init(params), key=run_key)


def train_step(
  net: nn.Module,
  task: Any,
  tx: optax.GradientTransformation,
  state: TrainState,
  batch: Batch,
  alter: Alter | None = None,
) -> tuple[TrainState, dict[str, Any]]:
  """One update on the mean loss of the batch's real clips.

  loss = sum_b mask_b loss_b / sum_b mask_b, over the global batch, as `alter` (augmentation, mixing) makes it.

  Returns:
    The next state, and the step's metrics: pairs (sum, weight) of the task and of the loss parts, and the gradient's
    global norm before clipping.
  """
  key = jax.random.fold_in(state.key, state.step)
  if alter is not None:
    batch = alter(jax.random.fold_in(key, _ALTER_KEY), batch)

  def mean_loss(params: Any) -> tuple[Array, Any]:
    variables = {"params": params, **state.mutable}
    out, mutable = net.apply(variables, batch, train=True, mutable=list(state.mutable), rngs={"dropout": key})
    per_clip, parts = task.loss(out, batch)
    total, weight = masked(per_clip, batch["mask"])
    return total / jnp.maximum(weight, 1.0), (out, mutable, per_clip, parts)

  grads, (out, mutable, per_clip, parts) = jax.grad(mean_loss, has_aux=True)(state.params)
  updates, opt_state = tx.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  losses = {"objective": per_clip, **parts}
  pairs = {k: masked(v, batch["mask"]) for k, v in losses.items()}
  scalars = {k: v for k, v in task.sums(out, batch).items() if v[0].ndim == 0}
  one = jnp.ones(())
  metrics = {**scalars, **pairs, "grad_norm": (optax.tree.norm(grads), one)}
  return state.replace(step=state.step + 1, params=params, mutable=mutable, opt_state=opt_state), metrics


def eval_step(net: nn.Module, task: Any, state: TrainState, batch: Batch) -> tuple[Any, Any]:
  """Masked sums and outputs of one batch, without dropout."""
  out = net.apply({"params": state.params, **state.mutable}, batch, train=False)
  return task.sums(out, batch), out


def compile_steps(
  mesh: Mesh, net: nn.Module, task: Any, tx: optax.GradientTransformation, alter: Alter | None = None
) -> tuple[Any, Any, Any]:
  """The three functions jitted over the mesh: init(batch, seed), train(state, batch), eval(state, batch).

  The same program serves one device, many devices and many hosts; the state given to `train` is donated.
  """
  whole, parts = replicated(mesh), split(mesh)
  init = jax.jit(partial(init_state, net, tx), static_argnums=1, out_shardings=whole)
  train = jax.jit(
    partial(train_step, net, task, tx, alter=alter),
    in_shardings=(whole, parts),
    out_shardings=(whole, whole),
    donate_argnums=0,
  )
  evaluate = jax.jit(partial(eval_step, net, task), in_shardings=(whole, parts), out_shardings=(whole, whole))
  return init, train, evaluate
