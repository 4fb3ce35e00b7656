"""Gradient accumulation: parts equal the whole batch, also with padding; what batch norm and dropout do instead."""

from functools import cache
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vu_jax.errors import UserError
from vu_jax.metrics.sums import masked
from vu_jax.train.accumulate import accumulated
from vu_jax.train.mesh import check_batch_size

MASK = np.array([1, 1, 1, 1, 1, 0, 0, 0], np.float32)  # with four parts of two clips, one part is all padding


def make_batch(mask: np.ndarray = MASK) -> dict[str, jax.Array]:
  rng = np.random.default_rng(0)
  batch = {"video": rng.normal(size=(8, 6)), "label": rng.normal(size=(8, 3)), "mask": mask}
  return {k: jnp.asarray(v, jnp.float32) for k, v in batch.items()}


class Perceptron(nn.Module):
  norm: str = "layer"  # or "batch"

  @nn.compact
  def __call__(self, x):
    x = nn.Dense(5)(x)
    x = nn.BatchNorm(use_running_average=False, momentum=0.9)(x) if self.norm == "batch" else nn.LayerNorm()(x)
    return nn.Dense(3)(jnp.tanh(x))


@cache
def variables(net: Perceptron) -> dict[str, Any]:
  return jax.device_get(jax.jit(net.init)(jax.random.key(0), make_batch()["video"]))


@cache
def program(net: Perceptron, parts: int, unroll: bool | None) -> Any:
  """(params, mutable, batch, key) -> what `accumulated` gives for the mean over real clips, as a step wires it."""

  def run(params: Any, mutable: Any, batch: Any, key: Any) -> tuple[Any, Any, Any]:
    weight = jnp.maximum(batch["mask"].sum(), 1.0)

    def loss(params: Any, mutable: Any, part: Any, key: Any) -> Any:
      del key  # nothing is drawn
      out, mutable = net.apply({"params": params, **mutable}, part["video"], mutable=list(mutable))
      per_clip = ((out - part["label"]) ** 2).sum(-1)
      total, count = masked(per_clip, part["mask"])
      return total / weight, (mutable, {"loss": (total, count)})

    return accumulated(loss, params, mutable, batch, key, parts, unroll)

  return jax.jit(run)


def gradient(net: Perceptron, parts: int, batch: Any, unroll: bool | None = None) -> tuple[Any, Any, Any]:
  """Gradient, batch statistics and metrics."""
  params, mutable = variables(net)["params"], {k: v for k, v in variables(net).items() if k != "params"}
  return program(net, parts, unroll)(params, mutable, batch, jax.random.key(2))


@cache
def whole() -> tuple[Any, Any, Any]:
  return gradient(Perceptron(), 1, make_batch())


@pytest.mark.parametrize(("parts", "unroll"), [(2, False), (4, True)])
def test_parts_equal_the_whole_batch(parts: int, unroll: bool | None):
  """Gradient and metrics to rounding, looped and written out, although the parts hold 2, 2, 1 and 0 real clips."""
  grads, _, sums = gradient(Perceptron(), parts, make_batch(), unroll)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), grads, whole()[0])
  np.testing.assert_allclose(sums["loss"], whole()[2]["loss"], rtol=1e-6)
  assert float(sums["loss"][1]) == 5


def test_padding_may_hold_anything():
  """Neither what padded clips show nor where they lie in the batch moves the gradient."""
  batch, order = make_batch(), np.array([7, 0, 6, 1, 2, 5, 3, 4])
  odd = {k: v[order] for k, v in {**batch, "video": batch["video"].at[5:].set(100.0)}.items()}
  grads, _, _ = gradient(Perceptron(), 4, odd, unroll=True)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), grads, whole()[0])


def test_a_batch_of_padding_gives_no_gradient():
  """Zeros, not nan."""
  grads, _, sums = gradient(Perceptron(), 2, make_batch(np.zeros(8, np.float32)), unroll=False)
  assert not any(leaf.any() for leaf in jax.tree.leaves(grads))
  assert float(sums["loss"][1]) == 0


def test_parts_take_every_nth_clip():
  """Part i of two holds clips i, i + 2, ...: what devices with consecutive clips hold stays with them."""

  def loss(params: Any, mutable: Any, part: Any, key: Any) -> Any:
    return params * 0.0, (part["mask"][:, None] * jnp.ones((1, 1)), {})

  _, last, _ = accumulated(loss, jnp.ones(()), jnp.zeros((4, 1)), {"mask": jnp.arange(8.0)}, jax.random.key(0), 2)
  np.testing.assert_array_equal(last[:, 0], [1, 3, 5, 7])


def test_batch_norm_sees_the_parts_one_after_the_other():
  """Its running mean after two parts, by hand: 0.9 (0.9 x 0 + 0.1 mean of part 0) + 0.1 mean of part 1."""
  net, batch = Perceptron(norm="batch"), make_batch(np.ones(8, np.float32))
  _, mutable, _ = gradient(net, 2, batch)
  dense = variables(net)["params"]["Dense_0"]
  means = [np.mean(batch["video"][i::2] @ dense["kernel"] + dense["bias"], axis=0) for i in (0, 1)]
  wanted = 0.9 * 0.1 * means[0] + 0.1 * means[1]
  np.testing.assert_allclose(mutable["batch_stats"]["BatchNorm_0"]["mean"], wanted, rtol=1e-4, atol=1e-6)


def test_parts_draw_their_own_noise():
  """Equal clips in both parts get different dropout; a single part draws from the key itself."""
  seen = []

  def loss(params: Any, mutable: Any, part: Any, key: Any) -> Any:
    return params * 0.0, (mutable, {"drawn": jax.random.uniform(key), "square": jax.random.uniform(key) ** 2})

  key = jax.random.key(5)
  for parts in (1, 2):
    seen.append(accumulated(loss, jnp.ones(()), {}, {"mask": jnp.ones(4)}, key, parts)[2])
  assert float(seen[0]["drawn"]) == float(jax.random.uniform(key))
  one_of_two = (float(seen[1]["drawn"]) / 2) ** 2
  assert float(seen[1]["square"]) / 2 > one_of_two + 1e-6  # the mean square exceeds the squared mean: they differ


def test_a_batch_that_does_not_divide_is_refused():
  """The message names sizes that work, on all devices together."""
  with pytest.raises(UserError, match=r"batch_size = 8: must be a multiple of 3 parts .* on 1 devices, such as 6 or 9"):
    gradient(Perceptron(), 3, make_batch())
  with pytest.raises(UserError, match=r"multiple of 4 parts .* on 4 devices, such as 16 or 32"):
    check_batch_size(4, 24, parts=4)
  check_batch_size(4, 32, parts=4)
