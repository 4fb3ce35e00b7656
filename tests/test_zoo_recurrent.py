"""MODEL: recurrent and temporal models on features of frames, and the layers that they share."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vu_jax.config import find_module
from vu_jax.errors import UserError
from vu_jax.layers.blocks.cnn import FrameTrunk
from vu_jax.layers.blocks.frames_rnn import FramesRNN
from vu_jax.layers.blocks.recurrent_maps import RecurrentMaps, fused
from vu_jax.layers.blocks.time_pool import TimePool
from vu_jax.layers.convolution.causal import CausalBlock, CausalConv3D, Pasts, receptive_field
from vu_jax.layers.recurrence.recurrent import ConvGRU

VIDEO = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 9, 10, 3)), jnp.float32)
FORMS: dict[str, dict[str, Any]] = {
  "cnn_rnn": {"cell": "gru", "pool": "attention"},
  "tcn": {"norm": "layer", "pool": "attention", "channels": (8, 6)},
  "st_lstm": {"layers": 2, "pool": "last"},
  "conv_lstm": {"cell": "gru", "fuse": "all", "hidden": (4, 6), "neck": (), "pool": "attention"},
  "conv_lstm_rnn": {"cell": "rnn", "conv_cell": "lstm", "hidden": (4,), "pool": "mean"},
}


def model_of(name: str, **fields: Any) -> Any:
  module = find_module("model", name)
  return module.Model(**module.TINY | fields)


def shapes_of(model: Any, video: Any = VIDEO) -> Any:
  return jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), video)


def drawn(shapes: Any) -> Any:
  """Random parameters, all of them away from their start."""
  random = np.random.default_rng(1)
  return jax.tree.map(lambda s: jnp.asarray(random.normal(0.0, 0.5, s.shape), s.dtype), shapes)


@functools.cache
def prepared(name: str) -> tuple[Any, Any, Any]:
  """(model in the form of `FORMS`, variables, the jitted call)."""
  model = model_of(name, **FORMS[name])
  variables = drawn(shapes_of(model))
  return model, variables, jax.jit(lambda video: model.apply(variables, video, train=False))


def frames(*values: float) -> jax.Array:
  """A clip of one channel on one position."""
  return jnp.asarray(values, jnp.float32).reshape(1, -1, 1, 1, 1)


def assert_close(found: Any, wanted: Any) -> None:
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, wanted)


@pytest.mark.parametrize(
  ("frame", "cnn", "fields"), [("resnet18", "resnet", {}), ("small", "frame_cnn", {"stages": ((4, 2), (8, 2))})]
)
def test_weights_of_a_cnn_alone_fit(frame: str, cnn: str, fields: dict[str, Any]):
  """The CNN in front has the parameters and statistics of the model of its own, by name and shape."""
  alone = shapes_of(find_module("model", cnn).Model(**fields))
  together = shapes_of(model_of("tcn", frame=frame))
  for collection, wanted in alone.items():
    assert together[collection]["trunk"] == wanted["trunk"]


# Pooling over time


@pytest.mark.parametrize("chunks", [(3,), (1, 2), (1, 1, 1)], ids=str)
def test_time_pools_by_hand(chunks: tuple[int, ...]):
  """Frames 0, log 2, log 5 with a query of 1: weights 1/8, 2/8, 5/8. In one call, in chunks, and with huge scores."""

  def pooled(kind: Any, clip: jax.Array, query: float = 0.0) -> jax.Array:
    layer = TimePool(kind)
    state = layer.zero_state(1, 1)
    variables = {"params": {"query": jnp.full(1, query)}} if kind == "attention" else {}
    for chunk in jnp.split(clip, np.cumsum(chunks)[:-1], axis=1):
      out, state = layer.apply(variables, chunk, state)
    return out[0, 0]

  @jax.jit
  def all_pooled(clip, far):
    kinds = [pooled(kind, clip) for kind in ("mean", "last", "attention")]
    return [*kinds, pooled("attention", clip, 1.0), pooled("attention", far, 9.0), pooled("attention", far, -9.0)]

  found = all_pooled(frames(0, np.log(2), np.log(5)), frames(-300, 400, 100))
  mean, weighted = np.log(10) / 3, (2 * np.log(2) + 5 * np.log(5)) / 8
  np.testing.assert_allclose(found, [mean, np.log(5), mean, weighted, 400, -300], rtol=1e-5)


# What is seen of the past


@pytest.mark.parametrize("name", FORMS)
def test_streaming_equals_the_clip(name: str):
  """In uneven chunks every output of a frame, and what is pooled, are those of the clip in one call."""
  model, variables, run = prepared(name)
  whole = run(VIDEO)
  step = jax.jit(lambda state, video: model.apply(variables, state, video, method="stream"))
  state, parts = model.initial_state(2, 9, 10), []
  for chunk in jnp.split(VIDEO, [2], axis=1):
    state, out = step(state, chunk)
    parts.append(out)
  assert_close(out["pooled"], whole["pooled"])
  for key in set(whole) - {"pooled"}:
    assert_close(jnp.concatenate([part[key] for part in parts], axis=1), whole[key])


@pytest.mark.parametrize("name", FORMS)
def test_a_frame_does_not_see_later_ones(name: str):
  """Another last frame: the tokens of the frames before stay as they are, bit for bit, and its own change."""
  _, _, run = prepared(name)
  before, after = (run(v)["tokens"] for v in (VIDEO, VIDEO.at[:, 2].multiply(-2.0)))
  np.testing.assert_array_equal(before[:, :2], after[:, :2])
  assert not np.allclose(before[:, 2], after[:, 2])


def test_bidirectional_models_see_the_future_and_cannot_stream():
  """Another last frame changes the first token's backward half; "last" takes each direction at its own end."""
  model = model_of("cnn_rnn", bidirectional=True, layers=1)  # a second layer would mix the directions
  variables = drawn(shapes_of(model))
  run = jax.jit(lambda video: model.apply(variables, video, train=False))
  before, after = run(VIDEO), run(VIDEO.at[:, 2].multiply(-2.0))
  forward, backward = np.split(np.asarray(before["tokens"][:, :, 0, 0]), 2, axis=-1)
  np.testing.assert_array_equal(forward[:, 0], after["tokens"][:, 0, 0, 0, :8].reshape(2, 8))
  assert not np.allclose(backward[:, 0], after["tokens"][:, 0, 0, 0, 8:])
  assert_close(before["pooled"], np.concatenate([forward[:, -1], backward[:, 0]], axis=-1))
  for use in (lambda: model.initial_state(2, 9, 10), lambda: model.apply(variables, {}, VIDEO, method="stream")):
    with pytest.raises(UserError, match="bidirectional=True cannot stream"):
      use()


@pytest.mark.parametrize("chunks", [(5,), (1, 4), (3, 1, 1)], ids=str)
def test_causal_convolution_by_hand(chunks: tuple[int, ...]):
  """Taps 1, 10 two frames apart over 1..5: 10 x + what was two before. The past is the last two, whatever the chunk."""
  layer = CausalConv3D(1, (2, 1, 1), dilation=2)
  params = {"kernel": jnp.array([1.0, 10.0]).reshape(2, 1, 1, 1, 1), "bias": jnp.zeros(1)}

  @jax.jit
  def run(clip):
    past, parts = layer.zero_past(1, 1, 1, 1), []
    for chunk in jnp.split(clip, np.cumsum(chunks)[:-1], axis=1):
      out, past = layer.apply({"params": params}, chunk, past)
      parts.append(out)
    return jnp.concatenate(parts, axis=1), past

  out, past = run(frames(1, 2, 3, 4, 5))
  np.testing.assert_allclose(out, frames(10, 20, 31, 42, 53))
  np.testing.assert_array_equal(past, frames(4, 5))


def test_tcn_streams_over_all_its_dilations():
  """Nine frames in chunks of 1, 5, 1, 2, with weight norm: longer than the receptive field of 7."""
  model = model_of("tcn")
  video = jnp.asarray(np.random.default_rng(2).normal(size=(1, 9, 5, 6, 3)), jnp.float32)
  variables = drawn(shapes_of(model, video))

  @jax.jit
  def both(video):
    state, parts = model.initial_state(1, 5, 6), []
    for chunk in jnp.split(video, np.cumsum((1, 5, 1)), axis=1):
      state, out = model.apply(variables, state, chunk, method="stream")
      parts.append(out["tokens"])
    return jnp.concatenate(parts, axis=1), model.apply(variables, video, train=False)["tokens"]

  assert_close(*both(video))


def test_weight_norm_by_hand():
  """v = (3, 4) has length 5, so a scale of 10 makes the taps 6 and 8; it starts at 5, where it changes nothing."""
  layer = CausalConv3D(1, (2, 1, 1), weight_norm=True)
  kernel = jnp.array([3.0, 4.0]).reshape(2, 1, 1, 1, 1)
  params = {"kernel": kernel, "scale": jnp.full(1, 10.0), "bias": jnp.zeros(1)}
  past = layer.zero_past(1, 1, 1, 1)

  @jax.jit
  def both(clip):
    return layer.apply({"params": params}, clip, past)[0], layer.init(jax.random.key(0), clip, past)["params"]

  out, start = both(frames(1, 1))
  np.testing.assert_allclose(out, frames(8, 14), rtol=1e-6)
  np.testing.assert_allclose(start["scale"], np.linalg.norm(start["kernel"]), rtol=1e-6)


def test_causal_block_by_hand():
  """Kernels of one frame, weights 2 and 3: relu(x + relu(3 relu(2 x))) is 7 x for positive x, else 0."""
  block = CausalBlock(1, kernel=1)
  one = {"bias": jnp.zeros(1)}
  weights = [{"kernel": jnp.full((1, 1, 1, 1, 1), w), "scale": jnp.full(1, w), **one} for w in (2.0, 3.0)]
  pasts = block.zero_pasts(1, 1, 1, 1)
  variables = {"params": {"conv0": weights[0], "conv1": weights[1]}}
  out, ends = jax.jit(lambda clip: block.apply(variables, clip, pasts, train=False))(frames(-1, 2))
  np.testing.assert_allclose(out, frames(0, 14), rtol=1e-6)
  assert isinstance(ends, Pasts)
  assert ends.first.shape[1] == ends.second.shape[1] == 0


def test_dropout_of_a_causal_block_takes_channels_of_whole_clips():
  """What enters the sum is missing in all frames of a clip or in none."""
  block = CausalBlock(64, kernel=1, dropout=0.5)
  x = jnp.ones((2, 3, 1, 1, 64))
  weights = {"kernel": jnp.eye(64).reshape(1, 1, 1, 64, 64), "scale": jnp.ones(64), "bias": jnp.zeros(64)}
  variables = {"params": {"conv0": weights, "conv1": weights}}
  pasts, rngs = block.zero_pasts(2, 1, 1, 64), {"dropout": jax.random.key(0)}
  added = np.asarray(jax.jit(lambda x: block.apply(variables, x, pasts, train=True, rngs=rngs)[0] - x)(x))
  np.testing.assert_array_equal(added[:, 0], added[:, 1])
  np.testing.assert_array_equal(added[:, 0], added[:, 2])
  assert set(np.unique(added)) == {0.0, 4.0}  # twice 1 / (1 - 0.5)


def test_receptive_field_of_tcn():
  """Kernels of 2 frames dilated by 1 and 2, twice each: 1 + 2 (1 + 2) = 7 frames, by the gradient exactly."""
  model, sees = model_of("tcn"), 7
  assert model.receptive_field == sees
  video = jnp.asarray(np.random.default_rng(0).normal(size=(1, 10, 6, 6, 3)), jnp.float32)
  variables = jax.tree.map(jnp.abs, drawn(shapes_of(model, video)))  # nothing cancels, no ReLU is closed
  last = jax.jit(jax.grad(lambda video: model.apply(variables, video, train=False)["tokens"][:, -1].sum()))
  reached = np.abs(np.asarray(last(video))).max((0, 2, 3, 4)) > 0
  np.testing.assert_array_equal(reached, np.arange(10) >= 10 - sees)


def test_receptive_field_by_hand():
  """Three frames dilated by 1, 2, 4 in two convolutions each: 1 + 2 x 2 x 7 = 29; a kernel of 1 sees its frame only."""
  assert receptive_field(3, (1, 2, 4)) == 29
  assert receptive_field(1, (1, 2, 4)) == 1


# Recurrence on maps


def test_conv_lstm_keeps_the_names_of_its_parameters():
  """Checkpoints of before it had a choice of cells load; another cell has another cell's parameters."""
  params = shapes_of(model_of("conv_lstm"))["params"]
  assert set(params) == {"trunk", "recurrent_0", "down_0", "recurrent_1", "ahead_0"}
  assert set(params["recurrent_0"]["forward0_cell"]) == {"hidden"}
  other = shapes_of(model_of("conv_lstm", cell="gru"))["params"]
  assert set(other["recurrent_0"]["forward0_cell"]) == {"hidden", "candidate"}


def test_recurrent_maps_are_the_layers_one_after_the_other():
  """Stem and one ConvGRU without a neck are `FrameTrunk`, then `ConvGRU`, with the same parameters."""
  maps = RecurrentMaps(stem=((4, 2),), hidden=(6,), neck=(), cell="gru")
  zero = maps.zero_state(2, 9, 10)
  params = drawn(jax.eval_shape(maps.init, jax.random.key(0), VIDEO, zero))["params"]

  def by_hand(video):
    stem = FrameTrunk(((4, 2),)).apply({"params": params["trunk"]}, video)
    return ConvGRU(6).apply({"params": params["recurrent_0"]}, stem)

  found, wanted = jax.jit(lambda v: (maps.apply({"params": params}, v, zero), by_hand(v)))(VIDEO)
  assert_close((found[0], found[1][0]), wanted)
  assert maps.width == found[0].shape[-1] == 6


def test_fusing_by_hand():
  """Positions 0..8 on 2x2: the means of what lies in each window, 2, 3.5, 6.5, 8; behind them the coarse map."""
  fine, coarse = jnp.arange(9.0).reshape(1, 1, 3, 3, 1), jnp.full((1, 1, 2, 2, 1), -1.0)
  out = fused([fine, coarse])
  np.testing.assert_allclose(out[0, 0, ..., 0], [[2, 3.5], [6.5, 8]])
  np.testing.assert_array_equal(out[..., 1:], coarse)


def test_fusing_all_layers_adds_those_below_the_last():
  """The last channels are the tokens of `fuse="last"`; the others are the layers below, on its grid."""
  model, variables, run = prepared("conv_lstm")
  whole = run(VIDEO)["tokens"]
  last = jax.jit(lambda v: model.clone(fuse="last", pool="mean").apply(variables, v, train=False))(VIDEO)["tokens"]
  assert whole.shape == (2, 3, 3, 3, 4 + 6)
  assert last.shape == (2, 3, 3, 3, 6)
  assert_close(whole[..., 4:], last)
  assert np.abs(whole[..., :4]).max(axis=(0, 1, 2, 3)).min() > 0


def test_conv_lstm_rnn_reads_the_maps_of_conv_lstm():
  """Its `maps` are the tokens of conv_lstm with the same parameters; its own tokens have no grid left."""
  model, variables, run = prepared("conv_lstm_rnn")
  out = run(VIDEO)
  below = model_of("conv_lstm", hidden=model.hidden)
  wanted = jax.jit(lambda v: below.apply({"params": variables["params"]["maps"]}, v, train=False))(VIDEO)
  assert_close(out["maps"], wanted["tokens"])
  assert out["tokens"].shape == (2, 3, 1, 1, 8)


# Recurrence over frames


def test_attention_maps_are_shares_of_the_positions():
  """They sum to 1 in every frame on the CNN's grid, and differ from frame to frame and from position to position."""
  _, _, run = prepared("st_lstm")
  attention = run(VIDEO)["attention"]
  assert attention.shape == (2, 3, 3, 3)
  assert (attention > 0).all()
  np.testing.assert_allclose(attention.sum((2, 3)), 1, rtol=1e-5)
  assert float(attention.std((2, 3)).min()) > 1e-3
  assert float(jnp.abs(attention[:, 1:] - attention[:, :-1]).max()) > 1e-2


def test_dropout_takes_what_enters_each_layer():
  """With one layer, too: two draws differ, and evaluation draws nothing."""
  layer, plain = FramesRNN("gru", 8, dropout=0.5), FramesRNN("gru", 8)
  maps = VIDEO[..., :2]
  state = layer.zero_state(2)
  variables = drawn(jax.eval_shape(functools.partial(layer.init, train=False), jax.random.key(0), maps, state))

  @jax.jit
  def four_runs():
    trained = [layer.apply(variables, maps, state, train=True, rngs={"dropout": jax.random.key(k)}) for k in (0, 1)]
    quiet = [layer.apply(variables, maps, state, train=False), plain.apply(variables, maps, state, train=True)]
    return [out["tokens"] for out, _ in trained + quiet]

  first, second, quiet, without = four_runs()
  assert not np.allclose(first, second)
  assert_close(quiet, without)


def test_presets_have_the_layers_of_their_papers():
  """Parameters of LRCN: torchvision's GoogLeNet without classifier, and one LSTM of 256 units: four gates with kernel,
  recurrent kernel and bias. Of Ng et al.: five of 512, here behind a small CNN of as many channels."""
  presets = find_module("model", "cnn_rnn").PRESETS
  lrcn = shapes_of(model_of("cnn_rnn", **presets["lrcn"]))["params"]
  assert count(lrcn) == 5_599_904 + 4 * 256 * (1024 + 256 + 1)
  five = shapes_of(model_of("cnn_rnn", **presets["beyond_short_snippets"] | {"frame": "small", "stages": ((1024, 9),)}))
  assert count(five["params"]["rnn"]) == 4 * 512 * ((1024 + 512 + 1) + 4 * (512 + 512 + 1))


def count(params: Any) -> int:
  return sum(leaf.size for leaf in jax.tree.leaves(params))
