"""The optimizer: every method against its formula, what decays, what is cut, and a memory that fits checkpoints."""

from collections.abc import Iterator
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vu_jax.errors import UserError
from vu_jax.train.optim import Optim, decayed, optimizer
from vu_jax.train.optim_options import Method
from vu_jax.train.param_groups import paths

METHODS = get_args(Method)
PARAMS = {
  "conv": {"kernel": jnp.ones((3, 3, 2, 4)), "bias": jnp.ones(4)},
  "norm": {"scale": jnp.ones(4), "bias": jnp.ones(4)},
  "logits": {"kernel": jnp.ones((4, 2)), "bias": jnp.ones(2)},
}


def by_path(values: Any) -> dict[str, Any]:
  return dict(zip(paths(values), jax.tree.leaves(values), strict=True))


def first_update(options: Optim, params: Any, grads: Any) -> Any:
  tx = optimizer(options, 10)
  return jax.jit(lambda: tx.update(grads, tx.init(params), params)[0])()


def steady(**options: Any) -> Optim:
  """At the peak of the rate from the start, nothing cut."""
  return Optim(**({"lr_peak": 0.1, "schedule": "constant", "warmup_steps": 0, "clip_norm": 0.0} | options))


@pytest.mark.parametrize("method", ["adamw", "sgd"])
def test_only_kernels_decay(method: Any):
  """Without a gradient, kernels shrink by lr x decay (x 1.9 with Nesterov's momentum); biases and norms stay."""
  options = steady(method=method, weight_decay=0.5, momentum=0.9)
  update = first_update(options, PARAMS, jax.tree.map(jnp.zeros_like, PARAMS))
  factor = 1.9 if method == "sgd" else 1.0
  for name, leaf in by_path(update).items():
    np.testing.assert_allclose(leaf, -0.1 * 0.5 * factor * name.endswith("kernel"), rtol=1e-6, err_msg=name)


def test_decayed_is_true_for_kernels_alone():
  """Linear and convolution kernels decay."""
  found = decayed(PARAMS)
  assert found["conv"] == {"kernel": True, "bias": False}
  assert found["norm"] == {"scale": False, "bias": False}


LR, WD, MU, B1, B2, EPS = 0.1, 0.5, 0.8, 0.7, 0.9, 1e-3


def sgd(p: np.ndarray, gs: list[np.ndarray], wd: float, nesterov: bool) -> Iterator[np.ndarray]:
  memory = 0.0
  for g in gs:
    g = g + wd * p
    memory = MU * memory + g
    p = yield -LR * (g + MU * memory if nesterov else memory)


def adam_direction(g: np.ndarray, memory: dict[str, Any]) -> np.ndarray:
  n = memory["n"] = memory.get("n", 0) + 1
  m = memory["m"] = B1 * memory.get("m", 0) + (1 - B1) * g
  v = memory["v"] = B2 * memory.get("v", 0) + (1 - B2) * g**2
  return m / (1 - B1**n) / (np.sqrt(v / (1 - B2**n)) + EPS)


def adam(p: np.ndarray, gs: list[np.ndarray], wd: float, method: str) -> Iterator[np.ndarray]:
  memory: dict[str, Any] = {}
  for g in gs:
    if method == "adam":
      p = yield -LR * adam_direction(g + wd * p, memory)
      continue
    direction = adam_direction(g, memory) + wd * p
    trust = np.linalg.norm(p) / np.linalg.norm(direction) if method == "lamb" else 1
    p = yield -LR * trust * direction


def lion(p: np.ndarray, gs: list[np.ndarray], wd: float) -> Iterator[np.ndarray]:
  memory = np.zeros_like(p)
  for g in gs:
    direction = np.sign(B1 * memory + (1 - B1) * g)
    memory = B2 * memory + (1 - B2) * g
    p = yield -LR * (direction + wd * p)


FORMULAS = {
  "sgd": lambda p, gs, wd: sgd(p, gs, wd, nesterov=False),
  "nesterov": lambda p, gs, wd: sgd(p, gs, wd, nesterov=True),
  "adam": lambda p, gs, wd: adam(p, gs, wd, "adam"),
  "adamw": lambda p, gs, wd: adam(p, gs, wd, "adamw"),
  "lamb": lambda p, gs, wd: adam(p, gs, wd, "lamb"),
  "lion": lion,
}


@pytest.mark.parametrize("name", FORMULAS)
def test_two_updates_equal_the_formula(name: str):
  """A kernel, which decays, and a bias, which does not, after each of two gradients."""
  rng = np.random.default_rng(0)
  params = {"kernel": rng.normal(size=(2, 2)), "bias": rng.normal(size=2)}
  grads = [{k: rng.normal(size=v.shape) for k, v in params.items()} for _ in range(2)]
  method = "sgd" if name == "nesterov" else name
  options = steady(method=method, nesterov=name == "nesterov", weight_decay=WD, momentum=MU, b1=B1, b2=B2, eps=EPS)
  tx = optimizer(options, 10)
  formulas = {k: FORMULAS[name](p, [g[k] for g in grads], WD if k == "kernel" else 0.0) for k, p in params.items()}
  wanted = {k: next(formula) for k, formula in formulas.items()}
  found, state = jax.device_put(params), tx.init(params)
  update = jax.jit(tx.update)
  for g in grads:
    updates, state = update(g, state, found)
    found = optax.apply_updates(found, updates)
    params = {k: params[k] + wanted[k] for k in params}
    for k in params:
      np.testing.assert_allclose(found[k], params[k], rtol=2e-5, err_msg=k)
    wanted = {k: formula.send(params[k]) for k, formula in formulas.items() if g is not grads[-1]}


def orthogonal(matrix: np.ndarray) -> np.ndarray:
  """Five steps of Newton and Schulz with the coefficients of Jordan et al. 2024."""
  x = matrix / np.linalg.norm(matrix)
  for _ in range(5):
    a = x @ x.T
    x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
  return x


def test_muon_turns_hidden_kernels_into_orthogonal_steps():
  """A convolution kernel counts as the matrix (3 x 3 x 2, 4); the embedding, the head and biases take Adam's steps.

  The first step of Adam is the sign of the gradient. Decay acts on both kinds of kernels, at the same rate.
  """
  rng = np.random.default_rng(0)
  shapes = {
    "backbone": {"embed": {"kernel": (3, 4)}, "block0": {"kernel": (3, 3, 2, 4), "bias": (4,)}},
    "head": {"kernel": (4, 2)},
  }
  draw = lambda: jax.tree.map(lambda s: rng.normal(size=s), shapes, is_leaf=lambda s: isinstance(s, tuple))  # noqa: E731
  params, grads = draw(), draw()
  found = first_update(steady(method="muon", weight_decay=WD, momentum=0.95), params, grads)
  hidden = orthogonal(grads["backbone"]["block0"]["kernel"].reshape(18, 4).T).T * 0.2 * np.sqrt(18)
  wanted = jax.tree.map(np.sign, grads)
  wanted["backbone"]["block0"]["kernel"] = hidden.reshape(3, 3, 2, 4)
  wanted = jax.tree.map(lambda d, p: -LR * (d + WD * p * (p.ndim > 1)), wanted, params)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), found, wanted)


def test_a_long_gradient_is_cut_to_its_norm():
  """A gradient of norm 5 (3, 4) becomes (0.6, 0.8); one below the limit, or without a limit, is left alone."""
  params, grads = jnp.zeros(2), jnp.array([3.0, 4.0])
  for clip_norm, wanted in ((1.0, [0.6, 0.8]), (9.0, [3, 4]), (0.0, [3, 4])):
    options = steady(method="sgd", lr_peak=1, momentum=0, clip_norm=clip_norm)
    np.testing.assert_allclose(-first_update(options, params, grads), wanted, rtol=1e-6)


def test_each_unit_is_cut_to_a_share_of_its_kernel():
  """Columns of norm 5 and 0.05 beside kernels of norm 10 and 10: a share of 0.1 cuts the first to norm 1 only."""
  params = {"kernel": jnp.array([[6.0, 8.0], [8.0, 6.0]])}
  grads = {"kernel": jnp.array([[3.0, 0.03], [4.0, 0.04]])}
  options = steady(method="sgd", lr_peak=1, momentum=0, weight_decay=0.0, clip_adaptive=0.1)
  np.testing.assert_allclose(-first_update(options, params, grads)["kernel"], [[0.6, 0.03], [0.8, 0.04]], rtol=1e-5)


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


NET = {
  "backbone": {
    "stem": {"kernel": jnp.ones((2, 3))},
    "block0": {"kernel": jnp.ones((3, 3)), "bias": jnp.ones(3)},
    "block1": {"kernel": jnp.ones((3, 3)), "bias": jnp.ones(3)},
  },
  "head": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)},
}
GROUPS = {"frozen": ("backbone/stem", "backbone/block0"), "lr_scale": (("head", 10.0),), "layer_decay": 0.5}


@pytest.mark.parametrize("method", ["sgd", "muon"])
def test_groups_scale_updates_and_the_frozen_take_part_in_nothing(method: Any):
  """Beside the plain update: 10 x in the head, half in the last block, nothing below.

  The gradient's norm counts what is trained only: a huge gradient of the frozen stem cuts nothing.
  """
  grads = jax.tree.map(lambda p: 0.01 * jnp.ones_like(p), NET)
  grads["backbone"]["stem"]["kernel"] *= 1e6
  options = {"method": method, "clip_norm": 1.0, "weight_decay": 0.3}
  trained = {"backbone": {"block1": NET["backbone"]["block1"]}, "head": NET["head"]}
  few = {"backbone": {"block1": grads["backbone"]["block1"]}, "head": grads["head"]}
  plain = first_update(steady(**options), trained, few)
  found = first_update(steady(**options, **GROUPS), NET, grads)
  check = lambda a, b, factor: np.testing.assert_allclose(a, factor * b, rtol=1e-5)  # noqa: E731
  jax.tree.map(lambda a, b: check(a, b, 10.0), found["head"], plain["head"])
  jax.tree.map(lambda a, b: check(a, b, 0.5), found["backbone"]["block1"], plain["backbone"]["block1"])
  assert not any(leaf.any() for name in ("stem", "block0") for leaf in jax.tree.leaves(found["backbone"][name]))


@pytest.mark.parametrize("method", METHODS)
def test_the_state_fits_checkpoints_and_shards_like_the_parameters(method: Any):
  """It outlives updates unchanged in structure, is the same when made anew, and mirrors what is trained.

  Scalars (counts) and muon's three coefficients apart, every array lies at a path that ends in that of a trained
  parameter, with its shape, so that it can lie on the devices as the parameter does.
  """
  options = Optim(method=method, warmup_steps=2, **GROUPS)
  tx, again = optimizer(options, 10), optimizer(options, 10)
  state = jax.eval_shape(tx.init, NET)
  _, later = jax.eval_shape(tx.update, NET, state, NET)
  assert later == state
  assert jax.eval_shape(again.init, NET) == state
  trained = {path: p for path, p in by_path(NET).items() if "stem" not in path and "block0" not in path}
  arrays = {path: leaf for path, leaf in by_path(state).items() if leaf.ndim and not path.endswith("ns_coeffs")}
  assert any(path.endswith("block1/kernel") for path in arrays)
  mirrored = optax.tree.map_params(tx, lambda _: True, state, transform_non_params=lambda _: False)
  assert {path for path, mirrors in by_path(mirrored).items() if mirrors} == set(arrays)
  for path, leaf in arrays.items():
    assert [p for p in trained if path.endswith("/" + p) and leaf.shape == trained[p].shape], path


def test_options_that_do_not_fit_the_parameters_are_refused_at_the_start():
  """The memory of a pattern that matches nothing is never made."""
  with pytest.raises(UserError, match=r'config\.optim\.frozen: .* "backbone/block7"; there are backbone/block[01]'):
    optimizer(Optim(frozen=("backbone/block7",)), 200).init(NET)
