"""The train step: a pure function that learns, ignores padding, and is the same on any number of devices."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vu_jax.models.frame_cnn import TINY, Model
from vu_jax.net import Net
from vu_jax.tasks.classify import Task
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


TWO_DEVICES = """
import json, sys
sys.path.insert(0, "tests")
import jax, jax.numpy as jnp, numpy as np, optax
from functools import partial
from test_step import TASK, make_batch, make_net
from vu_jax.train.mesh import data_mesh, to_devices
from vu_jax.train.step import compile_steps
mesh, batch = data_mesh(), jax.device_get(make_batch(4))
init, train, evaluate = compile_steps(mesh, make_net(), TASK, optax.sgd(0.5))
state = init(batch, 3)
placed = to_devices(mesh, batch)
for _ in range(3):
  state, metrics = train(state, placed)
sums, out = evaluate(state, placed)
print(json.dumps({
  "devices": mesh.size,
  "shards": len(placed["video"].addressable_shards),
  "loss": float(sums["loss"][0]),
  "logits": np.asarray(out["logits"]).tolist(),
}))
"""


def test_two_devices_equal_one():
  """Three steps with the batch split over two devices give the loss and logits of one device."""
  found = []
  for devices in (1, 2):
    flags = f"--xla_backend_optimization_level=1 --xla_force_host_platform_device_count={devices}"
    env = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", TWO_DEVICES], env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    found.append(json.loads(done.stdout.splitlines()[-1]))
  assert [f["shards"] for f in found] == [1, 2]
  np.testing.assert_allclose(found[0]["logits"], found[1]["logits"], atol=1e-4)
  assert found[0]["loss"] == pytest.approx(found[1]["loss"], rel=1e-4)


def test_step_donates_and_counts(monkeypatch):
  """The compiled step equals the plain function, and consumes the state that it is given."""
  from vu_jax.train.mesh import data_mesh, to_devices

  net, tx, batch = make_net(), optax.sgd(0.1), make_batch()
  mesh = data_mesh()
  start, train, _ = compile_steps(mesh, net, TASK, tx)
  state = start(batch, 0)
  plain, _ = step(net, TASK, tx, jax.tree.map(jnp.copy, state), batch)
  compiled, _ = train(state, to_devices(mesh, jax.device_get(batch)))
  for x, y in zip(jax.tree.leaves(plain.params), jax.tree.leaves(compiled.params), strict=True):
    np.testing.assert_allclose(x, y, atol=1e-6)
  assert jax.tree.leaves(state.params)[0].is_deleted()
