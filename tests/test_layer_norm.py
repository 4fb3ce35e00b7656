"""Layer norm against Flax's, by hand, over members of a population, and in both precisions."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vu_jax.layers.layer_norm import LayerNorm, layer_normalized

SHAPE = (2, 3, 5, 6)


def outcome(module: nn.Module, seed: int, dtype: str = "float32") -> tuple:
  """Result, and the gradients of <upstream, result> for parameters and input."""
  keys = jax.random.split(jax.random.key(seed), 4)
  x, upstream = (jax.random.normal(key, SHAPE) * 2 + 3 for key in keys[:2])
  params = {"scale": jax.random.normal(keys[2], SHAPE[-1:]), "bias": jax.random.normal(keys[3], SHAPE[-1:])}

  def value(params: dict, x: jax.Array) -> tuple:
    y = module.apply({"params": params}, x)
    return (y * upstream).sum(), y

  return jax.value_and_grad(value, argnums=(0, 1), has_aux=True)(params, x.astype(dtype))


@pytest.mark.parametrize("epsilon", [1e-6, 0.5])
def test_equals_flax(epsilon: float) -> None:
  ours, flax = (outcome(kind(epsilon=epsilon), 0) for kind in (LayerNorm, nn.LayerNorm))
  assert jax.tree.structure(ours) == jax.tree.structure(flax)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), ours, flax)


def test_by_hand() -> None:
  y = layer_normalized(jnp.array([[1.0, 3.0], [7.0, 7.0]]), jnp.array([2.0, 1.0]), jnp.array([0.5, -1.0]), 1e-12)
  np.testing.assert_allclose(y, [[-1.5, 0.0], [0.5, -1.0]], atol=1e-5)


def test_members_of_a_population_equal_single_ones() -> None:
  x, upstream = jax.random.normal(jax.random.key(0), (2, 3, 4, 6))
  scales = jax.random.normal(jax.random.key(1), (3, 6))

  def gradients(x: jax.Array, scale: jax.Array) -> tuple:
    return jax.grad(lambda x, s: (layer_normalized(x, s, s, 1e-6) * upstream[0]).sum(), argnums=(0, 1))(x, scale)

  together = jax.vmap(gradients)(x, scales)
  for member in range(3):
    alone = gradients(x[member], scales[member])
    jax.tree.map(lambda a, b, m=member: np.testing.assert_allclose(a[m], b, rtol=1e-5, atol=1e-5), together, alone)


def test_bfloat16_computes_in_float32() -> None:
  (_, y), (params, x) = outcome(LayerNorm(dtype="bfloat16"), 0, "bfloat16")
  assert y.dtype == x.dtype == jnp.bfloat16
  assert all(p.dtype == jnp.float32 for p in jax.tree.leaves(params))
  (_, exact), (_, wanted) = outcome(LayerNorm(), 0)
  np.testing.assert_allclose(y.astype(jnp.float32), exact, atol=0.05)
  np.testing.assert_allclose(x.astype(jnp.float32), wanted, atol=0.05)
