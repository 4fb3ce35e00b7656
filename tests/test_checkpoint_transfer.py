"""Starting from another run: what is loaded, resized, skipped and new is said, and nothing mismatches silently."""

import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from test_checkpoint import Numbers

from experiments.running.start import filled
from vu_jax.checkpoint.saving import Checkpoints
from vu_jax.checkpoint.transfer import place, read_variables, transfer
from vu_jax.errors import UserError
from vu_jax.layers.attention.positions import interpolate_positions
from vu_jax.train.step import TrainState

FOUND = {
  "params/backbone/stem/kernel": np.full((3, 4), 7.0, np.float32),
  "params/backbone/positions/joint": np.arange(24, dtype=np.float32).reshape(2, 2, 2, 3),
  "batch_stats/backbone/norm/mean": np.arange(4, dtype=np.float32),
  "params/head/logits/kernel": np.ones((4, 8), np.float32),
  "params/head/decoder/bias": np.ones(2, np.float32),
}


def network(**other: Any) -> dict[str, Any]:
  """A fresh network that fits, but for a longer clip and other classes."""
  fresh = {
    "params/backbone/stem/kernel": jnp.zeros((3, 4)),
    "params/backbone/positions/joint": jnp.zeros((4, 2, 2, 3)),
    "batch_stats/backbone/norm/mean": jnp.zeros(4),
    "params/head/logits/kernel": jnp.zeros((4, 5)),
  }
  return fresh | {k.replace("__", "/"): v for k, v in other.items()}


def test_everything_is_accounted_for():
  """Equal arrays are taken, positions resized as the layer does it, and the head of other classes starts anew."""
  taken, said = transfer(FOUND, network(), ("head",), "runs/a, step 3")
  assert said.loaded == ["params/backbone/stem/kernel", "batch_stats/backbone/norm/mean"]
  assert said.resized == ["params/backbone/positions/joint 2x2x2x3 to 4x2x2x3"]
  assert said.new == ["params/head/logits/kernel 4x5"]
  assert said.skipped == ["params/head/logits/kernel 4x8", "params/head/decoder/bias 2"]
  wanted = interpolate_positions(jnp.arange(24.0).reshape(8, 3), (2, 2, 2), (4, 2, 2)).reshape(4, 2, 2, 3)
  np.testing.assert_allclose(taken["params/backbone/positions/joint"], wanted, rtol=1e-6)
  placed = place(taken, network())
  np.testing.assert_array_equal(placed["params/backbone/stem/kernel"], 7)
  np.testing.assert_array_equal(placed["params/head/logits/kernel"], 0)
  assert said.lines(1)[-1] == "1 new: params/head/logits/kernel 4x5"


@pytest.mark.parametrize(
  ("other", "allowed", "named"),
  [
    ({"params__backbone__stem__kernel": jnp.zeros((3, 5))}, ("head",), "stem/kernel is 3x4 there, 3x5 here"),
    ({"params__backbone__neck__bias": jnp.zeros(2)}, ("head",), "params/backbone/neck/bias is missing there, 2 here"),
    ({}, ("head/logits",), "params/head/decoder/bias is 2 there, missing here"),
    ({}, ("hea",), "params/head/logits/kernel is 4x8 there, 4x5 here"),
  ],
)
def test_mismatches_are_refused(other, allowed, named):
  """Another width, a new layer, a layer that would be left out: unless the config allows for it."""
  with pytest.raises(UserError, match=r"runs/a does not fit this network: .*init_allow_new") as error:
    transfer(FOUND, network(**other), allowed, "runs/a")
  assert named in str(error.value)


def saved(run: pathlib.Path, average: bool) -> None:
  checkpoints, batches = Checkpoints(run), Numbers()
  for step, top1 in ((1, 0.9), (2, 0.1), (3, 0.2)):
    state: dict[str, Any] = {
      "params": {"backbone": {"kernel": jnp.full((2, 3), float(step))}},
      "mutable": {"batch_stats": {"backbone": {"mean": jnp.full(2, 10.0 * step)}}},
      "opt_state": ({"mu": jnp.zeros(7)}, ()),
    }
    if average:
      state["average"] = {"backbone": {"kernel": jnp.full((2, 3), step + 0.5)}}
    checkpoints.save(step, state, batches)
    checkpoints.score(step, {"top1": top1})
  checkpoints.close()


@pytest.mark.parametrize(("average", "which", "kernel", "mean"), [(False, "latest", 3, 30), (True, "best", 1.5, 10)])
def test_variables_of_a_run(average, which, kernel, mean, tmp_path):
  """The newest or best checkpoint; averaged parameters where there are any; no optimizer."""
  saved(tmp_path, average)
  found, source = read_variables(tmp_path, which)
  assert found.keys() == {"params/backbone/kernel", "batch_stats/backbone/mean"}
  np.testing.assert_array_equal(found["params/backbone/kernel"], kernel)
  np.testing.assert_array_equal(found["batch_stats/backbone/mean"], mean)
  assert source == f"{tmp_path}, step {1 if which == 'best' else 3}"


def test_variables_of_a_file(tmp_path):
  """Imported weights; a file that would have to be unpickled is refused, as are places where nothing is."""
  file = tmp_path / "weights.npz"
  np.savez(file, **flatten_dict({"params": {"backbone": {"kernel": np.ones(3)}}}, sep="/"))
  assert read_variables(file, "latest")[0]["params/backbone/kernel"].tolist() == [1, 1, 1]
  np.savez(file, x=np.array([{}], dtype=object))
  with pytest.raises(ValueError, match="allow_pickle"):
    read_variables(file, "latest")
  with pytest.raises(UserError, match=r"neither a run directory with checkpoints nor an \.npz file"):
    read_variables(tmp_path / "none", "latest")


def test_a_fresh_state_is_filled():
  """Parameters, statistics and the average start where the other run ended; a new head as ever."""
  fresh = network()
  params = unflatten_dict({k.removeprefix("params/"): v for k, v in fresh.items() if k.startswith("params/")}, sep="/")
  mutable = {"batch_stats": {"backbone": {"norm": {"mean": jnp.zeros(4)}}}}
  state = TrainState(jnp.int32(0), params, mutable, (), None, params, jnp.int32(0))
  state, said = filled(state, FOUND, ("head",), "runs/a")
  for tree in (state.params, state.average):
    np.testing.assert_array_equal(tree["backbone"]["stem"]["kernel"], 7)
    np.testing.assert_array_equal(tree["head"]["logits"]["kernel"], 0)
  np.testing.assert_array_equal(state.mutable["batch_stats"]["backbone"]["norm"]["mean"], np.arange(4))
  assert len(said.loaded) == 2
