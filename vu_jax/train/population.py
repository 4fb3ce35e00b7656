"""Many trials in one program: members of a population see the same batches, and differ in seeds and numbers.

A state of a population is a `TrainState` of which every array has a leading member axis P; what a member computes is
`train_step`, with its own numbers, which are arguments of the compiled program and not part of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool

from vu_jax.glossary import Count, CountOrZero, Fraction
from vu_jax.train.member_axis import Given, Lowering, MemberAxis, Over, Values, default_lowering, over_members
from vu_jax.train.mesh import parted, replicated, split
from vu_jax.train.step import Alter, Batch, Steps, TrainState, compile_init, eval_step, init_state, train_step


class Trial(NamedTuple):
  """What one member is trained with; fields are as in `train_step`, and numbers in them may be traced."""

  net: Any
  task: Any
  tx: Any
  alter: Alter | None = None
  ema_decay: Fraction = 0.0


@dataclass(frozen=True)
class Population:
  """The functions of `step.py` for all members at once, jitted over a mesh. The state given to `train` is donated.

  Other members with as many values for the same names use the same compiled program.

  Fields:
    size: P.
    names: of the values that are arguments of the program; all others are part of it.
    init: seeds (P) -> state.
    train: (values, state, batch) -> (state, metrics), each sum and each weight (P). Beside those of `train_step`,
      `frozen`: whether the member has stopped, as it has skipped too many steps in a row.
    evaluate: (values, state, batch) -> (sums, outputs), with a leading P.
    shapes: of the state, with the sharding of each array, to restore a checkpoint with.
    lowering, over: how the members are computed, and what is divided over the devices.
  """

  size: Count
  names: frozenset[str]
  init: Any
  train: Any
  evaluate: Any
  shapes: TrainState
  lowering: Lowering
  over: Over

  def steps(self, values: Values) -> Steps:
    """For members with these values: functions as those of a run alone, but `init` takes the seeds of all.

    Raises:
      ValueError: values of other names, or of another number of members.
    """
    shapes = {name: np.shape(value) for name, value in values.items()}
    if shapes != dict.fromkeys(self.names, (self.size,)):
      raise ValueError(f"values of {shapes}: the program takes {sorted(self.names)} of {self.size} members each")
    return Steps(self.init, Given(self.train, values), Given(self.evaluate, values), self.shapes)


def compile_population(
  mesh: Mesh,
  make: Callable[[Values], Trial],
  values: Values,
  size: Count,
  batch: Batch,
  parts: Count = 1,
  max_skipped_steps: Count = 20,
  shard_min_size: CountOrZero = 0,
  lowering: Lowering | None = None,
  over: Over | None = None,
) -> Population:
  """The steps of a population. A member's numbers are those that it would get alone, to rounding.

  Values are float32 (int32) in the program: a member equals a run of its own with values that are rounded so.

  A member that has skipped `max_skipped_steps` in a row, which would end a run of its own, is frozen: its state stays
  for ever, `step` included, and its metrics have no weight. The others do not notice.

  Args:
    make: a member's numbers -> what it is trained with. Called while the program is traced, so it must not decide
      anything by them.
    values: of all members; those of the first one serve for initial shapes.
    size: P.
    batch: shapes of a global batch, which all members see.
    parts, shard_min_size: as in `compile_steps`.
    lowering: how the member axis is computed; by backend when left out.
    over: what the devices share out. "members": each has some of them, with all clips, and no exchange of gradients;
      "clips": each has a share of the clips, with all members. When left out, members if they divide.
  """
  lowering = lowering or default_lowering()
  over = over or ("clips" if size % mesh.size or mesh.shape["fsdp"] > 1 else "members")
  first = make({k: np.asarray(v)[0].item() for k, v in values.items()})
  whole = replicated(mesh)

  def start(seeds: Array) -> TrainState:
    zeros = {k: jnp.zeros(s.shape, s.dtype) for k, s in batch.items()}
    return jax.lax.map(lambda seed: init_state(first.net, first.tx, zeros, seed, first.ema_decay > 0), seeds)

  gathers = over == "clips" and mesh.shape["fsdp"] > 1
  gather = partial(jax.lax.with_sharding_constraint, shardings=whole) if gathers else lambda params: params

  def train(values: Values, state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Any]]:
    on = make(values)
    step = partial(train_step, on.net, on.task, on.tx, alter=on.alter, parts=parts, ema_decay=on.ema_decay)
    return unless_frozen(partial(step, gather=gather), max_skipped_steps, state, batch)

  def evaluate(values: Values, state: TrainState, batch: Batch) -> tuple[Any, Any]:
    on = make(values)
    return eval_step(on.net, on.task, state, batch, gather)

  shapes = jax.eval_shape(start, jax.ShapeDtypeStruct((size,), jnp.uint32))
  places = members_shardings(mesh, shapes, shard_min_size, over)
  axis = MemberAxis(size, lowering, over, mesh, places)
  return Population(
    size=size,
    names=frozenset(values),
    init=compile_init(start, places),
    train=over_members(train, axis, updates=True),
    evaluate=over_members(evaluate, axis, updates=False),
    shapes=jax.tree.map(lambda s, place: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=place), shapes, places),
    lowering=lowering,
    over=over,
  )


def members_shardings(mesh: Mesh, shapes: TrainState, min_size: CountOrZero, over: Over) -> Any:
  """Where the arrays of a population lie: some members on each device, or all members as one of them would lie."""
  if over == "members":
    return jax.tree.map(lambda _: split(mesh), shapes)
  parts = mesh.shape["fsdp"]
  return jax.tree.map(lambda s: NamedSharding(mesh, PartitionSpec(None, *parted(s.shape[1:], parts, min_size))), shapes)


def unless_frozen(
  step: Callable[[TrainState, Batch], tuple[TrainState, dict[str, Any]]],
  max_skipped_steps: Count,
  state: TrainState,
  batch: Batch,
) -> tuple[TrainState, dict[str, Any]]:
  """One step of a member; or the state as it is, and metrics without weight, if it is frozen."""
  alive = ~frozen(state, max_skipped_steps)
  after, metrics = step(state, batch)
  choose = partial(jax.tree.map, partial(jnp.where, alive))
  kept = choose(after.replace(key=None), state.replace(key=None)).replace(key=state.key)
  weighed = jax.tree.map(lambda x: jnp.where(alive, x, 0), metrics)
  one = jnp.ones(())
  said = {
    "skipped_in_a_row": (kept.skipped_in_a_row.astype(jnp.float32), one),
    "frozen": (frozen(kept, max_skipped_steps).astype(jnp.float32), one),
  }
  return kept, {**weighed, **said}


def frozen(state: TrainState, max_skipped_steps: Count) -> Bool[Array, "*P"]:
  """Which members have stopped for good."""
  return state.skipped_in_a_row >= max_skipped_steps


def member(tree: Any, i: int) -> Any:
  """One member's share of a state, of metrics or of sums: an ordinary `TrainState`, ordinary pairs."""
  return jax.tree.map(lambda x: x[i], tree)


def stacked(trees: Sequence[Any]) -> Any:
  """The population of these states."""
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def chosen(tree: Any, members: Sequence[int]) -> Any:
  """A smaller or rearranged population, such as the ones that a pruner leaves."""
  return jax.tree.map(lambda x: x[np.array(members)], tree)
