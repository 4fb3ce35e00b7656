"""LAYERS: scans whose weight gradients leave the loop."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr

from vu_jax.layers.recurrence import hoist
from vu_jax.layers.recurrence.hoist import RecurrentMap
from vu_jax.layers.recurrence.recurrent import LSTM, ConvGRU, ConvLSTM


class TwoMaps(nn.Module):
  """h' = tanh(x + bias + W2 relu(W1 h)): two maps, one behind the other, and a parameter that is neither."""

  kernel_size: tuple[int, ...] = ()

  @nn.compact
  def __call__(self, h: Any, x: Any) -> tuple[Any, Any]:
    inner = RecurrentMap(5, self.kernel_size, name="first")(h)
    outer = RecurrentMap(3, self.kernel_size, name="second")(nn.relu(inner))
    h = jnp.tanh(x + outer + self.param("bias", nn.initializers.ones, (3,)))
    return h, {"out": h, "inner": inner}


class Twice(nn.Module):
  @nn.compact
  def __call__(self, h: Any, x: Any) -> tuple[Any, Any]:
    shared = RecurrentMap(3, name="shared")
    return shared(h) + shared(x), None


class Problem(NamedTuple):
  cell: Any
  params: Any
  carry: Any
  xs: Any


def call(cell: Any, carry: Any, x: Any) -> tuple[Any, Any]:
  return cell(carry, x)


def problem(kernel_size: tuple[int, ...]) -> Problem:
  grid = (4, 5) if kernel_size else ()
  cell = TwoMaps(kernel_size, parent=None)
  carry, xs = (jax.random.normal(jax.random.key(i), s) for i, s in enumerate([(2, *grid, 3), (3, 2, *grid, 3)]))
  return Problem(cell, cell.init(jax.random.key(2), carry, xs[0])["params"], carry, xs)


def loop(cell: Any, params: Any, carry: Any, xs: Any) -> Any:
  """A plain Python loop over the cell, for ordinary autodiff."""
  ys = []
  for x in xs:
    carry, y = cell.apply({"params": params}, carry, x)
    ys.append(y)
  return carry, jax.tree.map(lambda *y: jnp.stack(y), *ys)


def gradients(run: Any, p: Problem) -> Any:
  """Values, and gradients of a mix of all outputs with respect to parameters, state and inputs."""

  def objective(params, carry, xs):
    out = run(p.cell, params, carry, xs)
    return sum((leaf * jnp.cos(jnp.arange(leaf.size).reshape(leaf.shape))).sum() for leaf in jax.tree.leaves(out)), out

  return jax.jit(jax.value_and_grad(objective, (0, 1, 2), has_aux=True))(p.params, p.carry, p.xs)


@pytest.mark.parametrize("kernel_size", [(), (3, 2)])
@pytest.mark.parametrize("options", [{}, {"remat": True, "unroll": 2}, {"reverse": True, "unroll": 2}])
def test_values_and_gradients_are_those_of_a_loop(kernel_size: tuple[int, ...], options: dict[str, Any]):
  """Vectors and maps (even kernel sides too), recomputed, unrolled, reversed: as ordinary autodiff of a loop gives."""
  p = problem(kernel_size)
  found = gradients(lambda *args: hoist.scan(call, *args, **options), p)
  if options.get("reverse"):
    flipped = lambda out: (out[0], jax.tree.map(lambda y: y[::-1], out[1]))  # noqa: E731
    wanted = gradients(lambda c, params, carry, xs: flipped(loop(c, params, carry, xs[::-1])), p)
  else:
    wanted = gradients(loop, p)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, wanted)


def test_population_of_trials():
  """Under vmap over parameters each member has the gradients it has alone."""
  p = problem(())
  grad = jax.jit(jax.grad(lambda params: (hoist.scan(call, p.cell, params, p.carry, p.xs)[0] ** 2).sum()))
  members = jax.tree.map(lambda a: jnp.stack([a, 2 * a]), p.params)
  together = jax.vmap(grad)(members)
  alone = [grad(jax.tree.map(lambda a, i=i: a[i], members)) for i in range(2)]
  jax.tree.map(lambda t, *a: np.testing.assert_allclose(t, jnp.stack(a), rtol=1e-5, atol=1e-6), together, *alone)


def test_maps_record_only_when_asked():
  """Initialising and calling a cell leaves nothing behind but parameters and results."""
  p = problem(())
  assert set(p.cell.init(jax.random.key(0), p.carry, p.xs[0])) == {"params"}
  _, recorded = p.cell.apply({"params": p.params}, p.carry, p.xs[0], mutable=[hoist.INPUTS])
  assert recorded[hoist.INPUTS]["first"]["kernel"] is p.carry


def test_a_map_used_twice_is_refused():
  """Its two inputs would need two records; the message names the map."""
  cell, x = Twice(parent=None), jnp.ones((2, 3))
  params = cell.init(jax.random.key(0), x, x)["params"]
  with pytest.raises(ValueError, match="shared is called twice in one step"):
    jax.grad(lambda p: hoist.scan(call, cell, p, x, x[None])[0].sum())(params)


def scans(jaxpr: Any) -> list[Any]:
  """All scan equations, those inside of others included."""
  jaxpr = jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr
  found = []
  for eqn in jaxpr.eqns:
    found += [eqn] if eqn.primitive.name == "scan" else []
    for value in jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda v: isinstance(v, Jaxpr | ClosedJaxpr)):
      found += scans(value) if isinstance(value, Jaxpr | ClosedJaxpr) else []
  return found


def carried(jaxpr: Any) -> set[tuple[int, ...]]:
  """Shapes that any scan carries from step to step."""
  return {v.aval.shape for s in scans(jaxpr) for v in s.outvars[: s.params["num_carry"]]}


@pytest.mark.parametrize(
  ("layer", "shape", "kernels"),
  [
    (LSTM(5, peephole="channel"), (2, 4, 3), [(5, 20)]),
    (ConvLSTM(5, unroll=1), (2, 4, 4, 4, 3), [(3, 3, 5, 20)]),
    (ConvGRU(5, unroll=1), (2, 4, 4, 4, 3), [(3, 3, 5, 10), (3, 3, 5, 5)]),
  ],
)
def test_no_loop_accumulates_a_weight_gradient(layer: Any, shape: tuple[int, ...], kernels: list[tuple[int, ...]]):
  """The gradient's program has loops, and none of them carries anything shaped like a kernel (small parameters may)."""
  x = jnp.zeros(shape)
  shapes = jax.eval_shape(layer.init, jax.random.key(0), x)["params"]
  params = jax.tree.map(lambda s: jnp.zeros(s.shape), shapes)
  program = jax.make_jaxpr(jax.grad(lambda p: layer.apply({"params": p}, x)[0].sum()))(params)
  assert len(scans(program)) >= 2
  assert not carried(program) & set(kernels)

  def ordinary(kernel):  # The same check sees the accumulator of ordinary autodiff.
    return jax.lax.scan(lambda h, _: (jnp.tanh(h @ kernel), None), jnp.ones((2, 5)), None, length=3)[0].sum()

  assert (5, 5) in carried(jax.make_jaxpr(jax.grad(ordinary))(jnp.ones((5, 5))))
