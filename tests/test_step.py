"""The train step: a pure function that learns, ignores padding, and skips what is not a number."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vu_jax.layers.norm import batch_norm
from vu_jax.models.frame_cnn import TINY, Model
from vu_jax.net import Net
from vu_jax.tasks.classify import Task
from vu_jax.train.mesh import device_mesh, to_devices
from vu_jax.train.step import compile_steps, eval_step, init_state, train_step

TASK = Task(num_classes=4)


def init(net, tx, batch, seed):
  """`init_state`, compiled: op by op would take minutes."""
  return jax.jit(init_state, static_argnums=(0, 1, 3))(net, tx, batch, seed)


step = jax.jit(train_step, static_argnums=(0, 1, 2))
evaluate = jax.jit(eval_step, static_argnums=(0, 1))


def make_net() -> Net:
  return Net(Model(**TINY), TASK.head())


def make_batch(clips: int = 4, seed: int = 0) -> dict[str, jax.Array]:
  rng = np.random.default_rng(seed)
  batch = {
    "video": rng.integers(0, 256, (clips, 3, 8, 8, 3), dtype=np.uint8),
    "label": np.arange(clips, dtype=np.int32) % 4,
    "index": np.arange(clips, dtype=np.int32),
    "mask": np.ones(clips, np.float32),
  }
  return jax.tree.map(jnp.asarray, batch)


def test_overfits_four_clips():
  """Forty steps on four clips with different labels bring the loss near zero and the accuracy to one."""
  net, tx, batch = make_net(), optax.adam(0.03), make_batch()
  state = init(net, tx, batch, seed=0)
  first = None
  for _ in range(40):
    state, metrics = step(net, TASK, tx, state, batch)
    first = first or float(metrics["loss"][0] / metrics["loss"][1])
  assert first == pytest.approx(np.log(4), abs=1e-5)  # the classifier starts at zero
  assert float(metrics["loss"][0] / metrics["loss"][1]) < 0.05
  assert float(metrics["top1"][0] / metrics["top1"][1]) == 1
  assert int(state.step) == 40


def test_padding_changes_nothing():
  """A batch with masked clips gives the update of the batch without them, whatever the padding holds."""
  net, tx = make_net(), optax.sgd(0.1)
  batch, padded = make_batch(2), make_batch(4, seed=5)
  padded = {key: padded[key].at[:2].set(batch[key]) for key in batch}
  padded["mask"] = padded["mask"].at[2:].set(0)
  state = init(net, tx, batch, seed=1)
  alone, a = step(net, TASK, tx, state, batch)
  beside, b = step(net, TASK, tx, state, padded)
  for x, y in zip(jax.tree.leaves(alone.params), jax.tree.leaves(beside.params), strict=True):
    np.testing.assert_allclose(x, y, atol=1e-6)
  assert float(a["loss"][1]) == float(b["loss"][1]) == 2
  np.testing.assert_allclose(a["loss"][0], b["loss"][0], rtol=1e-5)


def test_dropout_is_drawn_from_seed_and_step():
  """The same state gives the same update twice; evaluation draws nothing."""
  task = Task(num_classes=4, dropout=0.5)
  net, tx, batch = Net(Model(**TINY), task.head()), optax.sgd(0.1), make_batch()
  state = init(net, tx, batch, seed=2)
  state, _ = step(net, task, tx, state, batch)  # the classifier's zeros hide the dropout of the first step
  one, _ = step(net, task, tx, state, batch)
  two, _ = step(net, task, tx, state, batch)
  other, _ = step(net, task, tx, state.replace(step=state.step + 1), batch)
  assert all(jax.tree.leaves(jax.tree.map(lambda x, y: bool((x == y).all()), one.params, two.params)))
  assert not all(jax.tree.leaves(jax.tree.map(lambda x, y: bool((x == y).all()), one.params, other.params)))
  _, a = evaluate(net, task, state, batch)
  _, b = evaluate(net, task, state, batch)
  np.testing.assert_array_equal(a["logits"], b["logits"])


def leaves(state, *fields):
  return [np.asarray(x) for name in fields for x in jax.tree.leaves(getattr(state, name))]


def test_compiled_step_donates_and_averages():
  """The compiled step in two parts equals the plain function in one, and consumes the state that it is given.

  Evaluation uses the average: after the first update 9 / 11 of the way to the new parameters.
  """
  net, tx, batch = make_net(), optax.sgd(0.1), make_batch()
  batch["mask"] = batch["mask"].at[1].set(0)
  mesh = device_mesh()
  steps = compile_steps(mesh, net, TASK, tx, batch, parts=2, ema_decay=0.99)
  state = steps.init(0)
  assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, steps.shapes)
  start = jax.tree.map(jnp.copy, state.params)
  plain, wanted = step(net, TASK, tx, init(net, tx, batch, 0), batch)
  compiled, metrics = steps.train(state, to_devices(mesh, jax.device_get(batch)))
  assert jax.tree.leaves(state.params)[0].is_deleted()
  for x, y in zip(leaves(plain, "params"), leaves(compiled, "params"), strict=True):
    np.testing.assert_allclose(x, y, atol=1e-6)
  assert metrics.keys() == wanted.keys()
  np.testing.assert_allclose(metrics["loss"], wanted["loss"], rtol=1e-6)
  np.testing.assert_allclose(metrics["grad_norm"], wanted["grad_norm"], rtol=1e-5)
  for old, new, mean in zip(jax.tree.leaves(start), *(leaves(compiled, f) for f in ("params", "average")), strict=True):
    np.testing.assert_allclose(mean, old + 9 / 11 * (new - old), atol=1e-6)
  sums, _ = steps.evaluate(compiled, to_devices(mesh, jax.device_get(batch)))
  averaged, _ = evaluate(net, TASK, plain.replace(params=compiled.average), batch)
  np.testing.assert_allclose(sums["loss"], averaged["loss"], rtol=1e-6)


class Normed(nn.Module):
  """Batch norm of the pixels, and their mean."""

  @nn.compact
  def __call__(self, video, *, train):
    x = batch_norm(train=train)(name="norm")(video)
    return {"tokens": x, "pooled": x.mean((1, 2, 3))}


def test_a_step_that_is_not_finite_changes_nothing():
  """Parameters, optimizer, statistics and average stay as they were, bit for bit; two such steps are counted.

  The next good step starts to count anew, and draws what it would have drawn. Skipped steps have no weight in means.
  """
  net, tx, batch = Net(Normed(), TASK.head()), optax.adam(0.1), make_batch()
  averaging = jax.jit(partial(train_step, ema_decay=0.9), static_argnums=(0, 1, 2))
  start = jax.jit(init_state, static_argnums=(0, 1, 3, 4))(net, tx, batch, 0, True)
  state, metrics = averaging(net, TASK, tx, start, batch)
  assert (float(metrics["skipped"][0]), float(metrics["skipped_in_a_row"][0])) == (0, 0)
  fields = ("params", "opt_state", "mutable", "average")
  kept = leaves(state, *fields)
  assert any((a != b).any() for a, b in zip(kept, leaves(start, *fields), strict=True))
  broken = {**batch, "mask": batch["mask"].at[0].set(np.inf)}
  for n in (1, 2):
    state, metrics = averaging(net, TASK, tx, state, broken)
    assert jax.tree.map(float, metrics["skipped"]) == (1, 1)
    assert jax.tree.map(float, metrics["skipped_in_a_row"]) == (n, 1)
    others = {k: v for k, v in metrics.items() if not k.startswith("skipped")}
    assert {"loss", "objective", "grad_norm"} <= others.keys()
    assert not any(np.any(x) for x in jax.tree.leaves(others))
    assert (int(state.step), int(state.skipped_in_a_row)) == (1 + n, n)
    for a, b in zip(leaves(state, *fields), kept, strict=True):
      np.testing.assert_array_equal(a, b)
  state, metrics = averaging(net, TASK, tx, state, batch)
  assert (int(state.step), int(state.skipped_in_a_row)) == (4, 0)
  assert float(metrics["skipped"][0]) == 0
  assert all(np.isfinite(x).all() for x in leaves(state, *fields))
