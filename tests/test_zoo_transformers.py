"""MODEL: what tells the transformers apart: their sizes, who sees whom, class tokens, positions, masks."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vu_jax.config import find_module
from vu_jax.errors import UserError
from vu_jax.layers.attention.masked import DECODERS, MaskedDecoder, tube_mask
from vu_jax.layers.attention.positions import interpolate_positions, sin_cos_flat
from vu_jax.layers.convolution.conv_table import as_written
from vu_jax.models.timesformer import time_then_space

Params = Any
# Parameters with a classifier of 400, published or counted in the authors' code. ViViT's paper: 117.3 M for
# factorised self-attention, table 2; the dot-product form is the joint one without class token and position.
COUNTS = {
  ("vivit", "b16x2", 32): 88_954_000,
  ("vivit", "b16x2_fe", 32): 115_062_928,
  ("vivit", "b16x2_fsa", 32): 117_319_312,
  ("vivit", "b16x2_fdp", 32): 88_954_000 - 2 * 768,
  ("vivit", "l16x2", 32): 307_508_624,
  ("vivit", "l16x2_fe4", 32): 354_903_440,
  ("vivit", "l16x2_fe", 32): 606_827_920,
  ("timesformer", "divided", 8): 121_566_352,
  ("timesformer", "joint", 8): 86_112_400,
  ("timesformer", "space", 8): 86_106_256,
  ("videomae", "videomae_s", 16): 22_033_936,
  ("videomae", "videomae_b", 16): 86_534_800,
  ("videomae", "videomae_l", 16): 304_270_736,
  ("mvit", "mvit_v1_b", 16): 36_610_672,
  ("mvit", "mvit_v2_s", 16): 34_537_744,
}
PRETRAINING = {"videomae_s": 24_029_376, "videomae_b": 94_210_944, "videomae_l": 342_996_992}
CLIP = (3, 24, 16)  # 3 x 3 x 2 patches of (1, 8, 8)


def count(params: Params) -> int:
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def backbone(name: str, which: str, frames: int, **depths: int) -> int:
  """Parameters on a published clip; nothing is computed."""
  module = find_module("model", name)
  init = functools.partial(module.Model(**module.PRESETS[which] | depths).init, train=False)
  with as_written():  # faster to trace
    return count(jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct((1, frames, 224, 224, 3), jnp.float32)))


def total(one: int, two: int, blocks: int) -> int:
  """What that many equal blocks and all else have, from what one and two have: tracing all of them takes long."""
  return one + (blocks - 1) * (two - one)


@pytest.mark.parametrize(("name", "which", "frames"), COUNTS, ids=str)
def test_presets_have_the_published_number_of_parameters(name: str, which: str, frames: int):
  """On the clip that they were published for, with a classifier of 400."""
  fields = find_module("model", name).PRESETS[which]
  if name == "mvit":
    width, found = fields["width"] * 8, backbone(name, which, frames)
  else:
    second = {"time_depth": 1} if "time_depth" in fields else {}
    one, two = (backbone(name, which, frames, depth=depth, **second) for depth in (1, 2))
    width, found = fields["width"], total(one, two, fields["depth"] + fields.get("time_depth", 1) - 1)
  assert found + width * 400 + 400 == COUNTS[name, which, frames]


@pytest.mark.parametrize("which", PRETRAINING)
def test_pretraining_has_the_published_number_of_parameters(which: str):
  """Encoder of a tenth of the tokens, and decoder."""
  build, decoder = find_module("model", "videomae"), DECODERS[which]
  fields = build.PRESETS[which]
  shape, key = jax.ShapeDtypeStruct, jax.random.key(0)
  video, visible, masked = shape((1, 16, 224, 224, 3), jnp.float32), *(shape((1, n), jnp.int32) for n in (160, 1408))
  encoded = shape((1, 160, fields["width"]), jnp.float32)

  def encoder_of(depth: int) -> int:
    init = functools.partial(build.Model(**fields | {"depth": depth}).init, train=False)
    return count(jax.eval_shape(lambda v, i: init(key, v, visible=i), video, visible))

  def decoder_of(depth: int) -> int:
    init = functools.partial(MaskedDecoder(2 * 16 * 16 * 3, **decoder | {"depth": depth}).init, train=False)
    return count(jax.eval_shape(lambda *a: init(key, *a), encoded, visible, masked))

  parts = (total(of(1), of(2), depth) for of, depth in ((encoder_of, fields["depth"]), (decoder_of, decoder["depth"])))
  assert sum(parts) == PRETRAINING[which]


@functools.cache
def drawn(name: str, **options: Any) -> tuple[Any, Params, Any]:
  """(model of one block, random parameters, the jitted call)."""
  module = find_module("model", name)
  model = module.Model(**module.TINY | options)
  video = jax.ShapeDtypeStruct((2, *CLIP, 3), jnp.float32)
  shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), video)
  rng = np.random.default_rng(0)
  params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) * 0.5, jnp.float32), shapes)
  return model, params, jax.jit(functools.partial(model.apply, train=False))


def random_video(*clip: int) -> jax.Array:
  return jnp.asarray(np.random.default_rng(1).standard_normal((2, *(clip or CLIP), 3)), jnp.float32)


ALL, FRAME, PLACE = "the clip", "its frame", "its place"
SEEN: dict[tuple[str, str], tuple[str, ...]] = {
  ("vivit", "joint"): (ALL,),
  ("vivit", "factorised_encoder"): (FRAME,),
  ("vivit", "factorised_self_attention"): (ALL,),
  ("vivit", "factorised_dot_product"): (FRAME, PLACE),
  ("timesformer", "divided"): (ALL,),
  ("timesformer", "joint"): (ALL,),
  ("timesformer", "space"): (FRAME,),
  ("videomae", ""): (ALL,),
}


@pytest.mark.parametrize(("name", "form"), SEEN, ids=str)
def test_who_sees_whom_in_one_block(name: str, form: str):
  """Changing one patch changes the tokens that see it, and leaves all others as they are; `pooled` sees every patch."""
  _, params, run = drawn(name, **({"form": form} if form else {}))
  video = random_video()
  before, after = run(params, video), run(params, video.at[:, 1, 8:16, :8].multiply(-1.0))
  changed = np.abs(np.asarray(before["tokens"] - after["tokens"])).max((0, -1)) > 1e-5
  expected = np.zeros((3, 3, 2), bool)
  for reach in SEEN[name, form]:
    expected[{ALL: np.s_[:], FRAME: np.s_[1], PLACE: np.s_[:, 1, 0]}[reach]] = True
  np.testing.assert_array_equal(changed, expected)
  assert (before["pooled"] != after["pooled"]).any(-1).all()


def test_frames_alone_are_blind_to_their_order():
  """TimeSformer "space" averages over frames; the encoder of frames in ViViT's model 2 is followed by one that sees."""
  video = random_video()
  _, params, run = drawn("timesformer", form="space")
  forward, backward = run(params, video), run(params, video[:, ::-1])
  np.testing.assert_allclose(forward["pooled"], backward["pooled"], rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(forward["tokens"], backward["tokens"][:, ::-1], rtol=1e-4, atol=1e-5)
  _, params, run = drawn("vivit", form="factorised_encoder")
  forward, backward = run(params, video), run(params, video[:, ::-1])
  np.testing.assert_allclose(forward["tokens"], backward["tokens"][:, ::-1], rtol=1e-4, atol=1e-5)
  assert np.abs(forward["pooled"] - backward["pooled"]).max() > 1e-2


def test_divided_attention_starts_as_a_model_of_frames():
  """The projection behind time and the positions in time start at zero, so no token sees another frame."""
  model, params, run = drawn("timesformer", form="divided")
  video = random_video()
  start = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), video)
  for variables, blind in ((start, True), (params, False)):
    forward, backward = (np.asarray(run(variables, v)["pooled"]) for v in (video, video[:, ::-1]))
    assert (np.abs(forward - backward).max() < 1e-4) == blind


def test_the_class_token_gets_the_mean_of_what_it_saw_in_each_frame():
  """By hand: attention that adds the number of the frame, to three frames of two patches behind a class token."""

  def attention(name: str) -> Any:
    return lambda x, train: x + jnp.arange(3.0)[:, None, None] * (name == "attention")

  space = time_then_space((3, 2, 1), "float32", attention)["attention"]
  tokens = jnp.asarray([[[10.0], [1], [2], [3], [4], [5], [6]]])
  out = space(tokens, train=False)
  assert out.ravel().tolist() == [10 + (0 + 1 + 2) / 3, 1, 2, 3 + 1, 4 + 1, 5 + 2, 6 + 2]


def test_another_size_gets_interpolated_positions():
  """A larger clip gives what a model with tables of its size, resized from those of the first, gives."""
  _, params, run = drawn("timesformer", form="divided")
  larger, resized = random_video(4, 16, 40), dict(params["params"])
  for table, old, new in (("space", (3, 2), (2, 5)), ("time", (3,), (4,))):
    rows = interpolate_positions(resized[f"{table}_positions"][table].reshape(-1, 8), old, new)
    resized[f"{table}_positions"] = {table: rows.reshape(*new, 8)}
  found, expected = run(params, larger), run({"params": resized}, larger)
  np.testing.assert_allclose(found["tokens"], expected["tokens"], rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(found["pooled"], expected["pooled"], rtol=1e-4, atol=1e-5)


def test_sinusoids_count_the_tokens_of_the_clip_or_of_a_given_grid():
  """VideoMAE has no table to keep; `grid` says for which clip the fixed one is, and others get it resized."""
  build = find_module("model", "videomae").Model
  clip = np.asarray(build(width=8)._positions((2, 3, 2)))
  np.testing.assert_array_equal(clip, sin_cos_flat(12, 8))
  np.testing.assert_array_equal(build(width=8, grid=(2, 3, 2))._positions((2, 3, 2)), clip)
  other = interpolate_positions(jnp.asarray(clip), (2, 3, 2), (4, 3, 1))
  np.testing.assert_array_equal(build(width=8, grid=(2, 3, 2))._positions((4, 3, 1)), other)
  with pytest.raises(UserError, match=r"grid = \(2, 3\): must be 3 numbers"):
    build(width=8, grid=(2, 3))._positions((4, 3, 1))


def test_hidden_tubelets_are_never_looked_at():
  """With all visible, tokens are those of the clip behind a norm; with some, pixels of the others do not matter."""
  model, params, run = drawn("videomae")
  params = {"params": params["params"] | {"norm": {"scale": jnp.ones(8), "bias": jnp.zeros(8)}}}
  video, everything = random_video(), jnp.broadcast_to(jnp.arange(18), (2, 18))
  visible, masked = tube_mask(jax.random.key(3), 2, (3, 3, 2), 0.5)
  encode = jax.jit(lambda video, visible: model.apply(params, video, visible=visible, train=False)["visible"])
  whole = run(params, video)["tokens"].reshape(2, 18, 8)
  normed = (whole - whole.mean(-1, keepdims=True)) / jnp.sqrt(whole.var(-1, keepdims=True) + 1e-6)
  np.testing.assert_allclose(encode(video, everything), normed, rtol=1e-3, atol=1e-4)
  t, h, w = (np.asarray(n) for n in np.unravel_index(np.asarray(masked[0]), (3, 3, 2)))
  changed = np.array(video)
  for i, j, k in zip(t, h, w, strict=True):
    changed[0, i, 8 * j : 8 * j + 8, 8 * k : 8 * k + 8] = 7.0
  assert not np.array_equal(changed, video)
  np.testing.assert_array_equal(encode(video, visible)[0], encode(jnp.asarray(changed), visible)[0])


DROPS = {"vivit": {"depth": 2}, "timesformer": {"depth": 2}, "videomae": {"depth": 2}, "mvit": {}}


@pytest.mark.parametrize("name", DROPS)
def test_each_field_of_randomness_draws_in_training(name: str):
  """Stochastic depth and dropout reach the blocks: random numbers are drawn (traced, not computed)."""
  module, video = find_module("model", name), jax.ShapeDtypeStruct((1, *CLIP, 3), jnp.float32)
  options = module.TINY | DROPS[name]
  shapes = jax.eval_shape(functools.partial(module.Model(**options).init, train=False), jax.random.key(0), video)

  def draws(**rates: float) -> bool:
    call = functools.partial(module.Model(**options | rates).apply, train=True)
    jaxpr = jax.make_jaxpr(lambda v, x, key: call(v, x, rngs={"dropout": key}))(shapes, video, jax.random.key(0))
    return "random_bits" in str(jaxpr)

  assert [draws(drop_path=0.3), draws(dropout=0.3), draws()] == [True, True, False]


def test_later_encoder_counts_its_blocks_on():
  """Layer-wise rates go by the numbers of blocks, so those of ViViT's second encoder come behind the first's."""
  module = find_module("model", "vivit")
  model = module.Model(**module.TINY | {"form": "factorised_encoder", "depth": 2, "time_depth": 2})
  video = jax.ShapeDtypeStruct((1, *CLIP, 3), jnp.float32)
  params = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), video)["params"]
  assert [k for k in sorted(params) if k.startswith("block")] == ["block0", "block1", "block2", "block3"]
  assert params["time_positions"]["time"].shape == (3, 8)
