"""What one member of a population computes becomes what all of them do; axis 0 of all arrays is P then."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vu_jax.glossary import Count
from vu_jax.train.mesh import AXES, replicated, split

Values: TypeAlias = Mapping[str, Any]  # name of a hyperparameter -> one number, or those of all members (P,)
Lowering: TypeAlias = Literal["turns", "unroll", "vmap", "map"]
Over: TypeAlias = Literal["members", "clips"]
One: TypeAlias = Callable[[Values, Any, Any], tuple[Any, Any]]  # (values, state, batch) of one member

# Backend -> how the member axis is computed. "turns" calls one program for each member; "unroll" writes the members out
# in one, one after the other; "vmap" computes them at once, for which convolutions with kernels of their own become
# grouped ones; "map" loops over them inside of a program. "turns" and "map" compile one member, whatever their number,
# and have the memory of one.
# One step of 4 members of 8 clips, 2 cores under load [ms]:
#                                  alone, in turn   unroll   vmap    map   first call [s]
#   conv_lstm, 4x24x24                        157      151    368   1625   39, 32, 42
#   vivit, width 64, 4x32x32                   45       47     45     60   35, 14, 14
#   frame_cnn, 4x16x16                         34       24     17     56   19, 10, 7
# Elsewhere nothing is measured yet; written out, members never take longer than alone.
LOWERING: Mapping[str, Lowering] = {"cpu": "turns"}
ELSEWHERE: Lowering = "turns"


def default_lowering() -> Lowering:
  """That of this backend."""
  return LOWERING.get(jax.default_backend(), ELSEWHERE)


@dataclass(frozen=True)
class MemberAxis:
  """The members of a population, and where they are computed.

  Fields:
    size: P. lowering: how. over: what the devices of the mesh share out.
    places: shardings of the state.
  """

  size: Count
  lowering: Lowering
  over: Over
  mesh: Mesh
  places: Any

  @property
  def on_each(self) -> int:
    """Members that one device computes."""
    return self.size // self.mesh.size if self.over == "members" else self.size

  def on_devices(self, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of (values, state, batch, ...) that each device computes for its members, from all clips; or that all
    devices compute together, each from its clips."""
    if self.over == "clips" or self.mesh.size == 1:
      return function
    rows, whole = PartitionSpec(AXES), PartitionSpec()

    def mapped(values: Values, state: Any, batch: Any, *more: Any) -> Any:
      specs = (rows, rows, whole, *(whole for _ in more))
      divided: Any = jax.shard_map(function, mesh=self.mesh, in_specs=specs, out_specs=(rows, rows), check_vma=False)
      return divided(values, state, batch, *more)

    return mapped


def over_members(one: One, axis: MemberAxis, updates: bool) -> Any:
  """Jitted (values, state, batch) -> (first, second), where axis 0 of values, state and results is P.

  Args:
    updates: whether `first` is the next state; the one that is given is donated then.
  """
  if axis.lowering == "turns":
    return Turns(_turn(one, axis, updates), axis, updates)
  whole = replicated(axis.mesh)
  function = axis.on_devices(_at_once(one, axis.lowering))
  first = axis.places if updates else whole
  places = (whole, axis.places, split(axis.mesh))
  return jax.jit(function, in_shardings=places, out_shardings=(first, whole), donate_argnums=(1,) if updates else ())


def _at_once(one: One, lowering: Lowering) -> Callable[..., Any]:
  """All members in one program."""
  if lowering == "vmap":
    return jax.vmap(one, in_axes=(0, 0, None))

  def row(values: Values, state: Any, batch: Any) -> Any:
    scan = partial(jax.lax.scan, unroll=lowering == "unroll")
    return scan(lambda _, member: (None, one(member[0], member[1], batch)), None, (dict(values), state))[1]

  return row


def _turn(one: One, axis: MemberAxis, updates: bool) -> Any:
  """Jitted (values, state, batch, n): what the n-th member of each device computes.

  Of a state that is updated, its row is written back into the donated arrays. All else gets an axis of devices in
  front, of length 1 where they do not have members of their own.
  """

  def turn(values: Values, state: Any, batch: Any, n: Any) -> tuple[Any, Any]:
    value, row = jax.tree.map(lambda x: x[n], (dict(values), state))
    first, second = one(value, row, batch)
    written = jax.tree.map(lambda whole, x: whole.at[n].set(x), state, first) if updates else _row(first)
    return written, _row(second)

  whole, rows = replicated(axis.mesh), PartitionSpec(AXES)
  function = axis.on_devices(turn)
  own = NamedSharding(axis.mesh, rows) if axis.over == "members" else whole
  return jax.jit(
    function,
    in_shardings=(whole, axis.places, split(axis.mesh), whole),
    out_shardings=(axis.places if updates else own, own),
    donate_argnums=(1,) if updates else (),
  )


def _row(tree: Any) -> Any:
  return jax.tree.map(lambda x: x[None], tree)


@dataclass(frozen=True)
class Turns:
  """Calls a program of one member for each of them."""

  program: Any
  axis: MemberAxis
  updates: bool

  def __call__(self, values: Values, state: Any, batch: Any) -> tuple[Any, Any]:
    firsts, seconds = [], []
    for n in range(self.axis.on_each):
      first, second = self.program(values, state, batch, jnp.int32(n))
      seconds.append(second)
      if self.updates:
        state = first
      else:
        firsts.append(first)
    return (state if self.updates else _joined(firsts)), _joined(seconds)

  def lower(self, values: Values, state: Any, batch: Any) -> "Turns":
    index = jax.ShapeDtypeStruct((), jnp.int32)
    return Turns(self.program.lower(values, state, batch, index), self.axis, self.updates)

  def compile(self) -> "Turns":
    return Turns(self.program.compile(), self.axis, self.updates)

  def memory_analysis(self) -> Any:
    """Of a compiled one."""
    return self.program.memory_analysis()


@jax.jit
def _joined(turns: Sequence[Any]) -> Any:
  """Results of all members, in their order; those of a turn are of one member per device."""
  return jax.tree.map(lambda *xs: jnp.stack(xs, 1).reshape(-1, *xs[0].shape[1:]), *turns)


@dataclass(frozen=True)
class Given:
  """A jitted, lowered or compiled function of (values, state, batch), with its values."""

  function: Any
  values: Values

  def __call__(self, state: Any, batch: Any) -> Any:
    return self.function(self.values, state, batch)

  def lower(self, state: Any, batch: Any) -> "Given":
    return Given(self.function.lower(self.values, state, batch), self.values)

  def compile(self) -> "Given":
    return Given(self.function.compile(), self.values)

  def memory_analysis(self) -> Any:
    """Of a compiled one."""
    return self.function.memory_analysis()
