"""Batch norm against Flax's, by hand, and in both precisions."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vu_jax.layers.batch_norm import BatchNorm, batch_normalized

SHAPE = (2, 3, 4, 5, 6)


def draw(seed: int = 0, offset: float = 3.0) -> tuple[jax.Array, jax.Array, dict]:
  keys = jax.random.split(jax.random.key(seed), 4)
  x, upstream = (jax.random.normal(key, SHAPE) * 2 + shift for key, shift in zip(keys, (offset, 0.5), strict=False))
  params = {"scale": jax.random.normal(keys[2], SHAPE[-1:]), "bias": jax.random.normal(keys[3], SHAPE[-1:])}
  return x, upstream, params


def outcome(module: nn.Module, x: jax.Array, upstream: jax.Array, params: dict) -> tuple:
  """Result, statistics, and the gradients of <upstream, result> for parameters and input."""
  stats = {"mean": jnp.full(SHAPE[-1], 0.5), "var": jnp.full(SHAPE[-1], 2.0)}

  def value(params: dict, x: jax.Array) -> tuple:
    y, new = module.apply({"params": params, "batch_stats": stats}, x, mutable=["batch_stats"])
    return (y * upstream).sum(), (y, new)

  grads, aux = jax.jit(jax.grad(value, argnums=(0, 1), has_aux=True))(params, x)
  return aux, grads


@pytest.mark.parametrize("stored", [False, True], ids=["batch", "stored"])
def test_equals_flax(stored: bool) -> None:
  given = draw()
  ours = outcome(BatchNorm(stored, momentum=0.7, epsilon=1e-3), *given)
  flax = outcome(nn.BatchNorm(stored, momentum=0.7, epsilon=1e-3), *given)
  assert jax.tree.structure(ours) == jax.tree.structure(flax)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), ours, flax)


def test_by_hand() -> None:
  x = jnp.array([[1.0, 10.0], [3.0, 10.0]])
  y, mean, var = batch_normalized(x, jnp.array([2.0, 1.0]), jnp.array([0.5, -1.0]), 0.0 + 1e-12)
  np.testing.assert_allclose(mean, [2, 10])
  np.testing.assert_allclose(var, [1, 0])
  np.testing.assert_allclose(y, [[-1.5, -1.0], [2.5, -1.0]], atol=1e-5)


def test_gradient_equals_differences() -> None:
  x, upstream, params = draw()

  def value(x: jax.Array, scale: jax.Array) -> jax.Array:
    return (batch_normalized(x, scale, params["bias"], 1e-5)[0] * upstream).sum()

  step, at = 1e-2, (1, 2, 3, 4, 5)
  moved = [value(x.at[at].add(sign * step), params["scale"]) for sign in (1, -1)]
  found = jax.grad(value)(x, params["scale"])[at]
  np.testing.assert_allclose(found, (moved[0] - moved[1]) / (2 * step), rtol=0.02, atol=2e-3)


def test_bfloat16_keeps_statistics_in_float32() -> None:
  x, upstream, params = draw(offset=0.0)
  (y, new), grads = outcome(BatchNorm(False, dtype="bfloat16"), x.astype(jnp.bfloat16), upstream, params)
  assert y.dtype == jnp.bfloat16
  assert grads[1].dtype == jnp.bfloat16
  assert all(v.dtype == jnp.float32 for v in jax.tree.leaves((new, grads[0])))
  (exact, _), wanted = outcome(BatchNorm(False), x, upstream, params)
  np.testing.assert_allclose(y.astype(jnp.float32), exact, atol=0.05)
  np.testing.assert_allclose(grads[1].astype(jnp.float32), wanted[1], atol=0.05)


def test_without_factor_and_with_another_start() -> None:
  x = jnp.ones((2, 3))
  bare = BatchNorm(True, use_scale=False).init(jax.random.key(0), x)
  assert set(bare["params"]) == {"bias"}
  zero = BatchNorm(True, scale_init=nn.initializers.zeros).init(jax.random.key(0), x)
  assert not zero["params"]["scale"].any()
