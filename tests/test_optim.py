"""Optimizer and schedule: rates at the steps that matter, what decays, and that both methods go downhill."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vu_jax.errors import UserError
from vu_jax.train.optim import Optim, decayed, learning_rate, optimizer

PARAMS = {
  "conv": {"kernel": jnp.ones((3, 3, 2, 4)), "bias": jnp.ones(4)},
  "norm": {"scale": jnp.ones(4), "bias": jnp.ones(4)},
  "logits": {"kernel": jnp.ones((4, 2)), "bias": jnp.ones(2)},
}


def first_update(options: Optim, params: Any, grads: Any) -> Any:
  tx = optimizer(options, 10)
  return jax.jit(lambda: tx.update(grads, tx.init(params), params)[0])()


def test_learning_rate_by_hand():
  """Zero, up to the peak at the end of the warm-up, half of it midway, zero at the last step; or constant."""
  options = Optim(lr_peak=0.2, warmup_steps=10)
  rate = learning_rate(options, 110)
  expected = {0: 0.0, 5: 0.1, 10: 0.2, 60: 0.1, 85: 0.1 * (1 - np.sqrt(0.5)), 110: 0.0}
  for step, value in expected.items():
    assert float(rate(step)) == pytest.approx(value, abs=1e-7), step
  constant = learning_rate(Optim(lr_peak=0.2, warmup_steps=10, schedule="constant"), 110)
  assert [float(constant(step)) for step in (5, 10, 109)] == pytest.approx([0.1, 0.2, 0.2])
  assert float(learning_rate(Optim(lr_peak=0.2, warmup_steps=0), 110)(0)) == pytest.approx(0.2)


def test_a_warm_up_as_long_as_training_is_refused():
  """The message names both keys and both numbers."""
  with pytest.raises(UserError, match=r"config\.optim\.warmup_steps = 100: .* config\.train\.steps = 100"):
    optimizer(Optim(warmup_steps=100), 100)
  optimizer(Optim(warmup_steps=99), 100)


@pytest.mark.parametrize("method", ["adamw", "sgd"])
def test_only_kernels_decay(method: Any):
  """Without a gradient, kernels shrink by lr x decay (x 1.9 with Nesterov's momentum); biases and norms stay."""
  options = Optim(method=method, lr_peak=0.1, schedule="constant", warmup_steps=0, weight_decay=0.5, momentum=0.9)
  update = first_update(options, PARAMS, jax.tree.map(jnp.zeros_like, PARAMS))
  factor = 1.9 if method == "sgd" else 1.0
  flat = {"/".join(k.key for k in path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(update)}
  for name, leaf in flat.items():
    np.testing.assert_allclose(leaf, -0.1 * 0.5 * factor * name.endswith("kernel"), rtol=1e-6, err_msg=name)


def test_decayed_is_true_for_kernels_alone():
  """Linear and convolution kernels decay."""
  found = decayed(PARAMS)
  assert found["conv"] == {"kernel": True, "bias": False}
  assert found["norm"] == {"scale": False, "bias": False}


def test_a_long_gradient_is_cut_to_its_norm():
  """A gradient of norm 5 (3, 4) becomes (0.6, 0.8); one below the limit, or without a limit, is left alone."""
  params, grads = jnp.zeros(2), jnp.array([3.0, 4.0])
  for clip_norm, wanted in ((1.0, [0.6, 0.8]), (9.0, [3, 4]), (0.0, [3, 4])):
    options = Optim(method="sgd", lr_peak=1, schedule="constant", warmup_steps=0, momentum=0, clip_norm=clip_norm)
    np.testing.assert_allclose(-first_update(options, params, grads), wanted, rtol=1e-6)


@pytest.mark.parametrize("method", ["adamw", "sgd"])
def test_both_methods_go_downhill(method: Any):
  """A badly scaled quadratic falls to less than a hundredth within 60 steps."""

  def loss(x):
    return jnp.sum(jnp.array([1.0, 5.0]) * x**2)

  tx = optimizer(Optim(method=method, lr_peak=0.1, warmup_steps=5, weight_decay=0.0), 60)

  @jax.jit
  def step(x, state):
    updates, state = tx.update(jax.grad(loss)(x), state, x)
    return optax.apply_updates(x, updates), state

  x = jnp.array([1.0, -1.0])
  state = tx.init(x)
  for _ in range(60):
    x, state = step(x, state)
  assert loss(x) < 0.06
