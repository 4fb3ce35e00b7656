"""MODEL: the contract of every file in the folder, and what is special about the recurrent ones."""

import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vu_jax.build import build
from vu_jax.config import find_module, names
from vu_jax.errors import UserError

ORDER_BLIND = {"frame_cnn", "inception", "resnet"}  # they average over frames
MODELS = names("model")
BATCH = 2


def tiny(name: str, **changes: Any) -> Any:
  module = find_module("model", name)
  return module.Model(**module.TINY | changes)


def clip_size(name: str) -> tuple[int, int, int]:
  """(T, H, W) of a small clip that the model can take."""
  return getattr(find_module("model", name), "TINY_CLIP", (3, 16, 16))


def drawn(name: str) -> jax.Array:
  return jax.random.normal(jax.random.key(0), (BATCH, *clip_size(name), 3))


def call(model: Any, variables: Any, video: jax.Array, train: bool = False) -> Any:
  """The outputs; in training with the changed collections beside them."""
  mutable = [c for c in variables if c != "params"] if train else False
  return model.apply(variables, video, train=train, mutable=mutable, rngs={"dropout": jax.random.key(1)})


def random_variables(model: Any, video: Any) -> Any:
  """Every parameter random, also those that start at zero and would hide what is behind them; nothing is compiled."""
  shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), video)
  rng = np.random.default_rng(0)

  def draw(path: Any, leaf: Any) -> np.ndarray:
    last, noise = path[-1].key, rng.normal(size=leaf.shape)
    if last in ("scale", "var"):
      return np.asarray(1 + 0.1 * np.abs(noise), leaf.dtype)
    fan_in = int(np.prod(leaf.shape[:-1])) if leaf.ndim > 1 else 100
    return np.asarray(noise / fan_in**0.5, leaf.dtype)

  return jax.device_put(jax.tree_util.tree_map_with_path(draw, shapes))


@functools.cache
def prepared(name: str) -> tuple[Any, Any, Any]:
  """(model, variables, the jitted call), one compilation for several tests."""
  model = tiny(name)
  return model, random_variables(model, drawn(name)), jax.jit(functools.partial(call, model))


@functools.cache
def trained(name: str) -> tuple[Any, Any]:
  """Gradients of every parameter, and the collections after a call in training; on the host."""
  model, variables, _ = prepared(name)

  def objective(params):
    out, changed = call(model, variables | {"params": params}, drawn(name), train=True)
    mixes = {k: jax.random.normal(jax.random.key(i), v.shape) for i, (k, v) in enumerate(sorted(out.items()))}
    return sum((mixes[k] * (v + v**2)).sum() for k, v in out.items()), changed

  return jax.device_get(jax.jit(jax.grad(objective, has_aux=True))(variables["params"]))


@pytest.mark.parametrize("name", MODELS)
def test_contract(name: str):
  """A clip becomes `tokens` on a grid in time and space, and `pooled` of the same width, one row per clip."""
  _, variables, run = prepared(name)
  out = run(variables, drawn(name))
  assert out["tokens"].ndim == 5
  assert out["tokens"].shape[0] == BATCH
  assert out["pooled"].shape == (BATCH, out["tokens"].shape[-1])
  assert all(np.isfinite(value).all() for value in jax.tree.leaves(out))


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_learns(name: str):
  """No parameter is left without a gradient, and none gets one that is not finite."""
  grads, _ = trained(name)
  for path, grad in jax.tree_util.tree_leaves_with_path(grads):
    place = jax.tree_util.keystr(path)
    assert np.isfinite(grad).all(), place
    assert (grad != 0).any(), place


@pytest.mark.parametrize("name", MODELS)
def test_stored_statistics_move_in_training(name: str):
  """Each mean and variance moves towards the batch's; a call outside of training cannot write them."""
  _, variables, _ = prepared(name)
  _, changed = trained(name)
  before, after = (jax.tree_util.tree_leaves_with_path(v) for v in (variables.get("batch_stats", {}), changed))
  assert len(before) == len(after)
  for (path, old), (_, new) in zip(before, after, strict=True):
    assert (old != new).any(), jax.tree_util.keystr(path)


@pytest.mark.parametrize("name", MODELS)
def test_bfloat16_keeps_float32_parameters_and_the_result(name: str):
  """Half the bits in the computation: the same parameters, and features within 4 % of their length."""
  _, variables, run = prepared(name)
  model, video = tiny(name, dtype="bfloat16"), drawn(name)
  shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), video)
  assert jax.tree.map(lambda s: (s.shape, s.dtype), shapes) == jax.tree.map(lambda s: (s.shape, s.dtype), variables)
  assert {leaf.dtype for leaf in jax.tree.leaves(shapes["params"])} == {jnp.dtype("float32")}
  exact, rough = run(variables, video), jax.jit(functools.partial(call, model))(variables, video)
  for key in ("tokens", "pooled"):
    assert rough[key].dtype == jnp.bfloat16
    distance = jnp.linalg.norm(rough[key].astype(jnp.float32) - exact[key])
    assert 0 < distance < 0.04 * jnp.linalg.norm(exact[key]), key


@pytest.mark.parametrize("name", MODELS)
def test_a_clip_does_not_see_the_others_of_its_batch(name: str):
  """Other neighbours, same features."""
  _, variables, run = prepared(name)
  alone = run(variables, drawn(name))
  crowded = run(variables, drawn(name).at[1].multiply(-3.0))
  for key in ("tokens", "pooled"):
    np.testing.assert_allclose(alone[key][0], crowded[key][0], rtol=1e-5, atol=1e-6)
    assert not np.allclose(alone[key][1], crowded[key][1])


@pytest.mark.parametrize("name", MODELS)
def test_frame_order_matters_only_to_models_of_time(name: str):
  """Played backwards, a clip looks the same to a model that averages over frames, and to no other."""
  _, variables, run = prepared(name)
  forward, backward = run(variables, drawn(name))["pooled"], run(variables, drawn(name)[:, ::-1])["pooled"]
  difference = float(jnp.linalg.norm(forward - backward) / jnp.linalg.norm(forward))
  assert difference < 1e-5 if name in ORDER_BLIND else difference > 1e-3


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("more", [(2, 1, 6), (1, -1, 15)], ids=str)
def test_any_size_fits_or_the_error_names_those_that_do(name: str, more: tuple[int, int, int]):
  """Odd and oblong frames keep the contract, or are refused with the sizes that work (nothing is computed)."""
  size = [n + m for n, m in zip(clip_size(name), more, strict=True)]
  video = jax.ShapeDtypeStruct((3, *size, 3), jnp.float32)
  init = functools.partial(tiny(name).init_with_output, train=False)
  message = ""
  try:
    out, _ = jax.eval_shape(init, jax.random.key(0), video)
  except UserError as error:
    message = str(error)
  if message:
    assert re.search(r"multiples? of \d|at least \d|must be \d", message), message
  else:
    assert out["tokens"].shape[0] == 3
    assert out["pooled"].shape == (3, out["tokens"].shape[-1])


PRESETS = [(name, preset) for name in MODELS for preset in getattr(find_module("model", name), "PRESETS", {})]


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_presets_are_values_of_fields(name: str, preset: str):
  """Each value is one that a config may give, with and without other keys beside it."""
  module = find_module("model", name)
  model = build(module.Model, module.PRESETS[preset] | {"dtype": "bfloat16"}, "config.model")
  assert model.dtype == "bfloat16"


@pytest.mark.parametrize("name", [name for name in MODELS if hasattr(find_module("model", name).Model, "remat")])
def test_remat_recomputes_blocks(name: str):
  """The backward pass holds recomputations exactly where the field asks for them."""
  video = jax.ShapeDtypeStruct((1, *clip_size(name), 3), jnp.float32)
  for remat in (False, True):
    model = tiny(name, remat=remat)
    variables = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), video)
    jaxpr = jax.make_jaxpr(functools.partial(call, model, train=True))(variables, video)
    assert bool(re.search(r"\b(remat2?|checkpoint)\b", str(jaxpr))) == remat


def test_frame_features_are_those_of_each_frame_alone():
  """The tokens of frame 1 are those of a clip of that frame only: time is nothing but a batch here."""
  _, variables, run = prepared("frame_cnn")
  video = drawn("frame_cnn")
  whole, one = run(variables, video)["tokens"], run(variables, video[:, 1:2])["tokens"]
  np.testing.assert_allclose(whole[:, 1:2], one, rtol=1e-4, atol=1e-5)


def test_recurrent_features_do_not_see_the_future():
  """Changing the last frame changes its own tokens and none before."""
  _, variables, run = prepared("conv_lstm")
  video = drawn("conv_lstm")
  before, after = (run(variables, v)["tokens"] for v in (video, video.at[:, 2].set(0.0)))
  np.testing.assert_array_equal(before[:, :2], after[:, :2])
  assert not np.allclose(before[:, 2], after[:, 2])


# Of models with several forms of the stream: groups of forms that share their parameters, and so a compilation.
FORMS = {"conv_lstm": [[{"pool": "mean"}, {"pool": "last"}]]}
STREAMING = [
  (name, forms)
  for name in MODELS
  if hasattr(find_module("model", name).Model, "stream")
  for forms in FORMS.get(name, [[{}]])
]


@pytest.mark.parametrize(("name", "forms"), STREAMING)
def test_streaming_equals_the_clip(name: str, forms: list[dict[str, Any]]):
  """Frame by frame, and in uneven chunks, tokens and pooled are those of the clip in one call."""
  video = drawn(name)
  frames, size = video.shape[1], video.shape[2:4]
  models = [tiny(name, **form) for form in forms]
  variables = random_variables(models[0], video)

  @jax.jit
  def clip(video):
    return [m.apply(variables, video, train=False) for m in models]

  @jax.jit
  def stream(states, frames):
    pairs = [m.apply(variables, s, frames, train=False, method="stream") for m, s in zip(models, states, strict=True)]
    return [state for state, _ in pairs], [out for _, out in pairs]

  whole = clip(video)
  for lengths in ([1] * frames, [2] + [1] * (frames - 2)):
    states, parts = [m.initial_state(BATCH, *size) for m in models], []
    for chunk in jnp.split(video, np.cumsum(lengths)[:-1], axis=1):
      states, outs = stream(states, chunk)
      parts.append(outs)
    for i, form in enumerate(forms):
      tokens = jnp.concatenate([outs[i]["tokens"] for outs in parts], axis=1)
      np.testing.assert_allclose(tokens, whole[i]["tokens"], rtol=1e-4, atol=1e-5, err_msg=f"{form} {lengths}")
      np.testing.assert_allclose(outs[i]["pooled"], whole[i]["pooled"], rtol=1e-4, atol=1e-5, err_msg=str(form))


def test_conv_lstm_pools_all_frames_or_the_last():
  """`pool="last"` is the mean of the last frame's tokens; "mean" is another number."""
  video = drawn("conv_lstm")
  variables = random_variables(tiny("conv_lstm"), video)
  whole = [jax.jit(functools.partial(call, tiny("conv_lstm", pool=p)))(variables, video) for p in ("mean", "last")]
  np.testing.assert_allclose(whole[1]["pooled"], whole[1]["tokens"][:, -1].mean((1, 2)), rtol=1e-4, atol=1e-5)
  assert not np.allclose(whole[0]["pooled"], whole[1]["pooled"])
