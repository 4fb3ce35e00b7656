"""The matrix product under dense layers: its gradients, and what XLA is asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vu_jax.layers.product import product


def pulled(function, x, kernel):
  return jax.vjp(function, x, kernel)[1](function(x, kernel))


@pytest.mark.parametrize("lead", [(), (5,), (2, 3, 4)], ids=str)
def test_gradients_are_those_of_a_plain_product(lead: tuple[int, ...]):
  rng = np.random.default_rng(0)
  x, kernel = (jnp.asarray(rng.standard_normal(size), jnp.float32) for size in ((*lead, 6), (6, 7)))
  for found, wanted in zip(pulled(product, x, kernel), pulled(jnp.matmul, x, kernel), strict=True):
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("function", "is_turned"), [(product, False), (jnp.matmul, True)])
def test_the_gradient_of_the_kernel_is_not_turned(function, is_turned: bool):
  """(dy^T x)^T is what JAX makes of a plain product, and slow."""
  x, kernel = jnp.ones((8, 6)), jnp.ones((6, 7))
  program = jax.make_jaxpr(lambda x, k: pulled(function, x, k))(x, kernel)
  turned = [equation.outvars[0].aval.shape for equation in program.eqns if equation.primitive.name == "transpose"]
  assert (kernel.shape in turned) is is_turned
