"""MODEL: the contract of every file in the folder, and what is special about the recurrent ones."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vu_jax.config import find_module, names
from vu_jax.errors import UserError
from vu_jax.models.conv_lstm import Model as ConvLSTMModel

ORDER_BLIND = {"frame_cnn"}
MODELS = names("model")
VIDEO = jax.random.normal(jax.random.key(0), (2, 3, 16, 16, 3))


def tiny(name: str, **changes: Any) -> Any:
  module = find_module("model", name)
  return module.Model(**module.TINY | changes)


def call(model: Any, variables: Any, video: jax.Array, train: bool = False) -> dict[str, jax.Array]:
  mutable = [c for c in variables if c != "params"] if train else False
  out = model.apply(variables, video, train=train, mutable=mutable, rngs={"dropout": jax.random.key(1)})
  return out[0] if train else out


@functools.cache
def initialised(name: str) -> tuple[Any, Any, Any]:
  """(model, variables, the jitted call), one compilation for several tests."""
  model = tiny(name)
  variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), VIDEO)
  return model, variables, jax.jit(functools.partial(call, model))


@pytest.mark.parametrize("name", MODELS)
def test_contract(name: str):
  """A clip becomes `tokens` on a grid in time and space, and `pooled` of the same width, one row per clip."""
  _, variables, run = initialised(name)
  out = run(variables, VIDEO)
  assert out["tokens"].ndim == 5
  assert out["tokens"].shape[0] == 2
  assert out["pooled"].shape == (2, out["tokens"].shape[-1])
  assert all(jnp.isfinite(value).all() for value in out.values())


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_learns(name: str):
  """No parameter is left without a gradient, and none gets one that is not finite."""
  model, variables, _ = initialised(name)
  mix = jax.random.normal(jax.random.key(2), (64,))

  def objective(params):
    out = call(model, variables | {"params": params}, VIDEO, train=True)
    return sum((v * mix[: v.shape[-1]]).sum() for v in (out["tokens"] ** 2, out["pooled"]))

  grads = jax.jit(jax.grad(objective))(variables["params"])
  for path, grad in jax.tree_util.tree_leaves_with_path(grads):
    place = jax.tree_util.keystr(path)
    assert jnp.isfinite(grad).all(), place
    assert (grad != 0).any(), place


@pytest.mark.parametrize("name", MODELS)
def test_bfloat16_keeps_float32_parameters_and_the_result(name: str):
  """Half the bits in the computation: the same parameters, and features within 3 % of their length."""
  _, variables, run = initialised(name)
  model = tiny(name, dtype="bfloat16")
  shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), VIDEO)
  assert jax.tree.map(lambda s: (s.shape, s.dtype), shapes) == jax.tree.map(lambda s: (s.shape, s.dtype), variables)
  assert {leaf.dtype for leaf in jax.tree.leaves(shapes["params"])} == {jnp.dtype("float32")}
  exact, rough = run(variables, VIDEO), jax.jit(functools.partial(call, model))(variables, VIDEO)
  for key in ("tokens", "pooled"):
    assert rough[key].dtype == jnp.bfloat16
    distance = jnp.linalg.norm(rough[key].astype(jnp.float32) - exact[key])
    assert 0 < distance < 0.03 * jnp.linalg.norm(exact[key]), key


@pytest.mark.parametrize("name", MODELS)
def test_a_clip_does_not_see_the_others_of_its_batch(name: str):
  """Other neighbours, same features."""
  _, variables, run = initialised(name)
  alone = run(variables, VIDEO)
  crowded = run(variables, VIDEO.at[1].set(100.0))
  for key in ("tokens", "pooled"):
    np.testing.assert_allclose(alone[key][0], crowded[key][0], rtol=1e-5, atol=1e-6)
    assert not np.allclose(alone[key][1], crowded[key][1])


@pytest.mark.parametrize("name", MODELS)
def test_frame_order_matters_only_to_models_of_time(name: str):
  """Played backwards, a clip looks the same to a model that averages over frames, and to no other."""
  _, variables, run = initialised(name)
  forward, backward = run(variables, VIDEO)["pooled"], run(variables, VIDEO[:, ::-1])["pooled"]
  difference = float(jnp.linalg.norm(forward - backward) / jnp.linalg.norm(forward))
  assert difference < 1e-5 if name in ORDER_BLIND else difference > 1e-3


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("size", [(17, 22), (15, 31)])
def test_any_size_fits(name: str, size: tuple[int, int]):
  """Odd and oblong frames keep the contract (shapes only, nothing is computed)."""
  model = tiny(name)
  video = jax.ShapeDtypeStruct((3, 5, *size, 3), jnp.float32)
  out, _ = jax.eval_shape(functools.partial(model.init_with_output, train=False), jax.random.key(0), video)
  assert out["tokens"].shape[0] == 3
  assert out["pooled"].shape == (3, out["tokens"].shape[-1])


def test_frame_features_are_those_of_each_frame_alone():
  """The tokens of frame 1 are those of a clip of that frame only: time is nothing but a batch here."""
  _, variables, run = initialised("frame_cnn")
  whole, one = run(variables, VIDEO)["tokens"], run(variables, VIDEO[:, 1:2])["tokens"]
  np.testing.assert_allclose(whole[:, 1:2], one, rtol=1e-4, atol=1e-5)


def test_recurrent_features_do_not_see_the_future():
  """Changing the last frame changes its own tokens and none before."""
  _, variables, run = initialised("conv_lstm")
  before, after = (run(variables, v)["tokens"] for v in (VIDEO, VIDEO.at[:, 2].set(0.0)))
  np.testing.assert_array_equal(before[:, :2], after[:, :2])
  assert not np.allclose(before[:, 2], after[:, 2])


STREAMING = [
  (name, changes)
  for name in MODELS
  if hasattr(find_module("model", name).Model, "stream")
  for changes in ([{"input": "frames"}, {"input": "differences"}, {"input": "both"}] if name == "conv_lstm" else [{}])
]


@pytest.mark.parametrize(("name", "changes"), STREAMING)
def test_streaming_equals_the_clip(name: str, changes: dict[str, Any]):
  """Frame by frame, and in uneven chunks, tokens and pooled are those of the clip in one call; odd frame sizes."""
  video = jax.random.normal(jax.random.key(3), (2, 3, 15, 22, 3))
  pools = ("mean", "last") if name == "conv_lstm" else ("",)
  models = [tiny(name, **changes, **({"pool": pool} if pool else {})) for pool in pools]
  variables = jax.jit(functools.partial(models[0].init, train=False))(jax.random.key(0), video)

  @jax.jit
  def clip(video):
    return [m.apply(variables, video, train=False) for m in models]

  @jax.jit
  def stream(states, frames):
    pairs = [m.apply(variables, s, frames, train=False, method="stream") for m, s in zip(models, states, strict=True)]
    return [state for state, _ in pairs], [out for _, out in pairs]

  whole = clip(video)
  for lengths in ((1, 1, 1), (2, 1)):
    states, parts, start = [m.initial_state(2, 15, 22) for m in models], [], 0
    for length in lengths:
      states, outs = stream(states, video[:, start : start + length])
      parts.append(outs)
      start += length
    for i, pool in enumerate(pools):
      tokens = jnp.concatenate([outs[i]["tokens"] for outs in parts], axis=1)
      np.testing.assert_allclose(tokens, whole[i]["tokens"], rtol=1e-4, atol=1e-5, err_msg=f"{pool} {lengths}")
      np.testing.assert_allclose(outs[i]["pooled"], whole[i]["pooled"], rtol=1e-4, atol=1e-5, err_msg=pool)
  if len(models) == 2:
    np.testing.assert_allclose(whole[1]["pooled"], whole[1]["tokens"][:, -1].mean((1, 2)), rtol=1e-4, atol=1e-5)
    assert not np.allclose(whole[0]["pooled"], whole[1]["pooled"])


def test_differences_need_two_frames():
  """A clip of one frame has no motion; the message says what is needed."""
  model = ConvLSTMModel(input="differences")
  video = jax.ShapeDtypeStruct((1, 1, 16, 16, 3), jnp.float32)
  with pytest.raises(UserError, match="at least 2 frames, not 1"):
    jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), video)
