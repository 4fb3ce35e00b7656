"""COST: what a network computes and keeps, per module, from its trace; and the memory of a compiled program."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
from jaxtyping import Array

from vu_jax.layers.convolution.conv_table import as_written


@dataclass(frozen=True)
class Stage:
  """One module of a network.

  Fields:
    path: joined by "/". shape: of its (first) output.
    parameters: trained values below it. flops: of one forward pass, a multiply-add is two.
    activations: bytes of all results of its layers, which the backward pass keeps unless blocks are recomputed.
  """

  path: str
  shape: tuple[int, ...]
  parameters: int
  flops: int
  activations: int


def forward_flops(function: Callable[..., Any], *args: Any) -> int:
  """Floating-point operations of convolutions and matrix products in one call; a multiply-add is two.

  As the mathematics has them, whatever lowering computes them; elementwise work is left out, as published tables do
  (which mostly count multiply-adds, so half of this).
  """
  return sum(flops_by_module(function, *args).values())


def flops_by_module(function: Callable[..., Any], *args: Any) -> Counter[str]:
  """Operations of one call by the module that they are in, such as "Net/backbone/layer1"; arguments may be shapes."""
  with as_written():
    jaxpr = jax.make_jaxpr(lambda *args: function(*args))(*args)  # a new function: JAX keeps the traces of old ones
  return sum((Counter({path: n}) for path, n in _operations(jaxpr.jaxpr, "", 1)), Counter())


def peak_bytes(compiled: Any) -> int:
  """The compiler's estimate of a program's peak memory: arguments, results and intermediates; 0 = unknown."""
  found = compiled.memory_analysis()
  if found is None:
    return 0
  return int(
    found.argument_size_in_bytes + found.output_size_in_bytes + found.temp_size_in_bytes - found.alias_size_in_bytes
  )


def stages(net: nn.Module, video: Any, depth: int, **call: Any) -> list[Stage]:
  """The modules with parameters of a network down to a depth, in the order of their calls.

  Args:
    net: called as `net(video, **call)`.
    video: shape of the input; a batch of one clip.
    depth: levels below the network itself; 0 = the network alone.
  """
  seen: dict[tuple[str, ...], tuple[int, ...]] = {}
  kept: Counter[tuple[str, ...]] = Counter()

  def record(next_call, args, kwargs, context):
    out = next_call(*args, **kwargs)
    if context.module.scope is None:  # it stands for its fields only
      return out
    path = context.module.path
    arrays = [a for a in jax.tree.leaves(out) if hasattr(a, "shape")]
    if context.method_name == "__call__" and arrays:
      seen.setdefault(path, tuple(arrays[0].shape))
      inside = any(len(other) > len(path) and other[: len(path)] == path for other in seen)
      if not inside:
        kept[path] += sum(a.size * a.dtype.itemsize for a in arrays)
    return out

  variables = jax.eval_shape(lambda v: net.init(jax.random.key(0), v, **call), video)

  def forward(variables: Any, video: Array) -> Any:
    return net.apply(variables, video, **call)

  with nn.intercept_methods(record):
    jax.eval_shape(forward, variables, video)
  flops = flops_by_module(forward, variables, video)
  sizes = {tuple(_key(k) for k in path): leaf.size for path, leaf in _leaves(variables["params"])}
  order = list(seen)
  # A module is seen when it returns, after those in it; in the table it comes before them.
  first = {p: min(i for i, q in enumerate(order) if q[: len(p)] == p) for p in order if len(p) <= depth}
  found = [
    Stage(
      "/".join(path),
      seen[path],
      sum(n for p, n in sizes.items() if p[: len(path)] == path),
      sum(n for p, n in flops.items() if _below(p, path)),
      sum(n for p, n in kept.items() if p[: len(path)] == path),
    )
    for path in sorted(first, key=lambda p: (first[p], len(p)))
  ]
  return [stage for stage in found if stage.parameters or not stage.path]


def _below(scope: str, path: tuple[str, ...]) -> bool:
  """Whether a scope such as "Net/Net.stream/backbone/layer1" lies in the module at a path: has its parts in order."""
  parts = iter(scope.split("/"))
  return all(name in parts for name in path)


def _leaves(tree: Any) -> list[tuple[Any, Any]]:
  return jax.tree_util.tree_leaves_with_path(tree)


def _key(entry: Any) -> str:
  return str(entry.key)


def _operations(jaxpr: Any, scope: str, times: int) -> Iterator[tuple[str, int]]:
  """(scope, operations) of every convolution and matrix product, loops multiplied out."""
  for equation in jaxpr.eqns:
    inner = str(equation.source_info.name_stack)
    here = "/".join(filter(None, (scope, inner)))
    name = equation.primitive.name
    if name == "conv_general_dilated":
      yield here, times * _of_convolution(equation)
    elif name == "dot_general":
      yield here, times * _of_product(equation)
    repeats = times * (equation.params["length"] if name == "scan" else 1)
    for parameter in _bodies(equation):
      yield from _operations(parameter, here, repeats)


def _bodies(equation: Any) -> Iterator[Any]:
  for parameter in equation.params.values():
    for entry in parameter if isinstance(parameter, (tuple, list)) else (parameter,):
      body = getattr(entry, "jaxpr", entry)
      if hasattr(body, "eqns"):
        yield body


def _of_convolution(equation: Any) -> int:
  """2 x outputs x taps x input channels of a group; zeros between inputs are not counted."""
  numbers = equation.params["dimension_numbers"]
  kernel, out = equation.invars[1].aval.shape, equation.outvars[0].aval.shape
  taps = math.prod(kernel[i] for i in numbers.rhs_spec[2:])
  return 2 * math.prod(out) * taps * kernel[numbers.rhs_spec[1]] // math.prod(equation.params["lhs_dilation"])


def _of_product(equation: Any) -> int:
  (contracted, _), _ = equation.params["dimension_numbers"]
  shape = equation.invars[0].aval.shape
  return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(shape[i] for i in contracted)
