"""MODEL: the forecasters, that is, what predicts the frames to come."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from peers import peer
from test_hoist import carried, scans

from vu_jax.config import find_module
from vu_jax.errors import UserError
from vu_jax.layers.blocks import patches
from vu_jax.layers.blocks.scheduled_sampling import Sampling, draw_given, linear_share, reverse_shares
from vu_jax.layers.recurrence.cells import LSTMState
from vu_jax.layers.recurrence.decoupling import Decoupling, overlap
from vu_jax.layers.recurrence.predrnn import PredRNNCell, PredRNNState, SpatioTemporalCell
from vu_jax.models import conv_lstm_forecaster, encoder_forecaster, predrnn, simvp

FEEDBACK = {
  "conv_lstm_forecaster": conv_lstm_forecaster.Model(hidden=(3, 2), kernel=3, patch=2, future=3),
  "predrnn": predrnn.Model(features=3, layers=2, kernel=3, patch=2, future=3, decouple=True),
}
CLIP = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 5, 6, 1)), jnp.float32)
BEHIND = jnp.asarray(np.random.default_rng(1).normal(size=(2, 3, 5, 6, 1)), jnp.float32)


def draw(model: Any, video: jax.Array) -> Any:
  """Random variables without a compilation: small biases, scales and variances near 1."""
  shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), video)
  rng = np.random.default_rng(2)

  def leaf(path: Any, shape: Any) -> jax.Array:
    noise = rng.normal(0, 0.1 if shape.ndim == 1 else np.prod(shape.shape[:-1]) ** -0.5, shape.shape)
    return jnp.asarray(noise + (path[-1].key in ("scale", "var")), jnp.float32)

  return jax.tree_util.tree_map_with_path(leaf, shapes)


@functools.cache
def feedback(name: str) -> tuple[Any, Any, Any]:
  """(variables, the compiled call with a sampling, the compiled call that predicts one frame only)."""
  model = FEEDBACK[name]
  call = jax.jit(lambda v, video, sampling: model.apply(v, video, train=True, sampling=sampling))
  one = jax.jit(lambda v, video: model.clone(future=1).apply(v, video, train=False))
  return draw(model, CLIP), call, one


def test_patches_are_rows_of_rows_of_channels():
  """Pixel (row r, column s) of channel c is 100 r + 10 s + c; the patch at (0, 1) holds rows 0, 1 and columns 2, 3."""
  rows, columns, channels = np.meshgrid(np.arange(4), np.arange(4), np.arange(2), indexing="ij")
  video = jnp.asarray(100 * rows + 10 * columns + channels, jnp.float32)[None, None]
  folded = patches.to_patches(video, 2)
  assert folded.shape == (1, 1, 2, 2, 8)
  np.testing.assert_array_equal(folded[0, 0, 0, 1], [20, 21, 30, 31, 120, 121, 130, 131])
  np.testing.assert_array_equal(patches.from_patches(folded, 2, 4, 4), video)


def test_patches_of_frames_that_they_do_not_fill():
  """3x5 pixels in patches of 4: zeros below and to the right, which the inverse cuts off."""
  video = jnp.ones((1, 2, 3, 5, 1))
  folded = patches.to_patches(video, 4)
  assert folded.shape == (1, 2, 1, 2, 16)
  np.testing.assert_array_equal(folded[0, 0, 0, 1], [1, 0, 0, 0] * 3 + [0] * 4)
  np.testing.assert_array_equal(patches.from_patches(folded, 4, 3, 5), video)


def test_pixel_shuffle_by_hand():
  """Channels 0..7 of one position are two channels of 2x2 pixels: 0 1 / 2 3 and 4 5 / 6 7."""
  video = patches.pixel_shuffle(jnp.arange(8.0).reshape(1, 1, 1, 1, 8), 2)
  np.testing.assert_array_equal(video[0, 0, :, :, 0], [[0, 1], [2, 3]])
  np.testing.assert_array_equal(video[0, 0, :, :, 1], [[4, 5], [6, 7]])


def filled(shapes: Any, values: dict[str, Any]) -> Any:
  """Parameters that are zero but for the kernels named by the first part of their path that `values` has."""

  def leaf(path: Any, shape: Any) -> jax.Array:
    found = [values[k.key] for k in path if k.key in values]
    return jnp.broadcast_to(jnp.asarray(found[0] if found else 0.0), shape.shape)

  return jax.tree_util.tree_map_with_path(leaf, shapes)


def one_pixel(module: Any, values: dict[str, Any], state: Any, x: Any) -> Any:
  shapes = jax.eval_shape(module.init, jax.random.key(0), state, *x)["params"]
  return jax.jit(module.apply)({"params": filled(shapes, values)}, state, *x)


PIXEL = (1, 1, 1, 1)


def test_one_step_of_the_conv_lstm_stack_by_hand():
  """Gates i, f, g, o of input 1 are 0, 0, log 3, 0; there is no forget bias.

  i = f = o = sigmoid(0) = 1/2, tanh(log 3) = 0.8; from memory 2, c' = 1/2 x 2 + 1/2 x 0.8 = 1.4, h' = tanh(1.4) / 2.
  The second layer reads that h' in the same step; its gates are h' times the same numbers.
  """
  stack = conv_lstm_forecaster.Stack((1, 1), 1, 0.0, 1.0, "float32")
  state = jax.tree.map(jnp.zeros_like, stack.zero_state(1, 1, 1))
  state = state._replace(layers=(LSTMState(jnp.zeros(PIXEL), jnp.full(PIXEL, 2.0)), state.layers[1]))
  gates = [0.0, 0.0, float(np.log(3)), 0.0]
  new, _ = one_pixel(stack, {"input0": gates, "input1": gates}, state, (jnp.ones(PIXEL),))
  hidden = np.tanh(1.4) / 2
  np.testing.assert_allclose([s.memory.item() for s in new.layers], [1.4, np.tanh(np.log(3) * hidden) / 2], rtol=1e-5)
  np.testing.assert_allclose(new.layers[0].hidden.item(), hidden, rtol=1e-5)


def test_one_step_of_the_st_lstm_by_hand():
  """Gates i, f, g, i', f', g', o are 0, -1, log 3, 0, -1, -log 3, 0; the forget bias makes both f zero.

  From C = 2 and M = 4: C' = 1/2 x 2 + 1/2 x 0.8 = 1.4, M' = 1/2 x 4 - 1/2 x 0.8 = 1.6; the increments are 0.4 and
  -0.4. W_1x1 = (1, -1) makes h' = 1/2 tanh(1.4 - 1.6).
  """
  log3 = float(np.log(3))
  cell = SpatioTemporalCell(1, (1, 1), 1.0, 1.0, False, "float32")
  gates = jnp.array([0, -1, log3, 0, -1, -log3, 0]).reshape(1, 1, 1, 7)
  state = LSTMState(jnp.zeros(PIXEL), jnp.full(PIXEL, 2.0))
  last = jnp.array([1.0, -1.0]).reshape(1, 1, 2, 1)
  new, zigzag, increments = one_pixel(cell, {"last": last}, state, (jnp.full(PIXEL, 4.0), gates))
  found = [new.memory.item(), zigzag.item(), *(x.item() for x in increments), new.hidden.item()]
  np.testing.assert_allclose(found, [1.4, 1.6, 0.4, -0.4, np.tanh(-0.2) / 2], rtol=1e-5)


def test_the_second_memory_runs_through_the_layers_and_on():
  """With all kernels zero each layer multiplies M by sigmoid(1), its forget bias: two layers, two steps, four times."""
  cell = PredRNNCell(1, 2, (1, 1), 1.0, 1.0, False, "float32", use_bias=False)
  zeros = LSTMState(jnp.zeros(PIXEL), jnp.zeros(PIXEL))
  state, gates = PredRNNState((zeros, zeros), jnp.full(PIXEL, 3.0)), jnp.zeros((1, 1, 1, 7))
  for factors in (2, 4):
    state, extras = one_pixel(cell, {}, state, (gates,))
    assert extras is None
    np.testing.assert_allclose(state.zigzag.item(), 3 / (1 + np.exp(-1)) ** factors, rtol=1e-5)


def test_decoupling_by_hand():
  """Two positions, two channels: (1, 0) and (-1, -1) overlap by 1 / sqrt 2, (3, 4) and (-4, 3) not at all.

  An adapter that doubles every channel changes nothing; one that adds both channels leaves (4, 4) and (-5, 2) in each:
  |-12| / (sqrt 32 sqrt 29). Vanishing increments count 0, and have finite gradients.
  """
  c = jnp.array([[1.0, 3.0], [0.0, 4.0]]).reshape(1, 1, 1, 2, 2)
  m = jnp.array([[-1.0, -4.0], [-1.0, 3.0]]).reshape(1, 1, 1, 2, 2)
  assert float(overlap(c, m)[0]) == pytest.approx(0.5 / 2**0.5)

  @jax.jit
  @functools.partial(jax.value_and_grad, argnums=1)
  def penalty(kernel, c):
    return Decoupling().apply({"params": {"adapter": {"kernel": kernel}}}, [(c[0], m[0])])[0]

  assert float(penalty(2 * jnp.eye(2)[None, None], c)[0]) == pytest.approx(0.5 / 2**0.5)
  assert float(penalty(jnp.ones((1, 1, 2, 2)), c)[0]) == pytest.approx(12 / (32 * 29) ** 0.5)
  value, slope = penalty(jnp.eye(2)[None, None], 0 * c)
  assert float(value) == 0
  assert jnp.isfinite(slope).all()


@pytest.mark.parametrize("name", FEEDBACK)
def test_without_targets_a_forecaster_reads_its_own_predictions(name: str):
  """Frames behind the clip are those of a longer clip whose last frames are the predictions; their sizes are odd."""
  variables, call, one = feedback(name)
  out = call(variables, CLIP, None)
  assert out["tokens"].shape[:4] == (2, 3, 3, 3)
  assert out["frames"].shape == (2, 3, 5, 6, 1)
  np.testing.assert_array_equal(out["frames"][:, 0], out["next_frames"][:, -1])
  longer = jnp.concatenate([CLIP, out["frames"][:, :2]], axis=1)
  again = one(variables, longer)
  np.testing.assert_allclose(again["next_frames"][:, 2:], out["frames"], rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(again["tokens"][:, :3], out["tokens"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FEEDBACK)
def test_scheduled_sampling_chooses_frame_by_frame_and_clip_by_clip(name: str):
  """Given everywhere = the longer clip; given nowhere behind the clip = no sampling; each clip has its own mask."""
  variables, call, one = feedback(name)
  everywhere, nowhere = jnp.ones((2, 4), bool), jnp.zeros((2, 4), bool).at[:, :2].set(True)
  true, own = (call(variables, CLIP, Sampling(BEHIND, given)) for given in (everywhere, nowhere))
  longer = jnp.concatenate([CLIP, BEHIND[:, :2]], axis=1)
  np.testing.assert_allclose(true["frames"], one(variables, longer)["next_frames"][:, 2:], rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(own["frames"], call(variables, CLIP, None)["frames"], rtol=1e-4, atol=1e-5)
  mixed = call(variables, CLIP, Sampling(BEHIND, jnp.stack([everywhere[0], nowhere[0]])))["frames"]
  np.testing.assert_allclose(mixed, jnp.stack([true["frames"][0], own["frames"][1]]), rtol=1e-4, atol=1e-5)
  assert not np.allclose(true["frames"][:, 1:], own["frames"][:, 1:], atol=1e-3)


def test_reverse_sampling_replaces_frames_of_the_clip():
  """Where frame 1 is not given, the prediction of it is read: as if it stood in the clip."""
  variables, call, _ = feedback("predrnn")
  given = jnp.ones((2, 4), bool).at[:, 0].set(False)
  reverse = call(variables, CLIP, Sampling(BEHIND, given))
  replaced = CLIP.at[:, 1].set(reverse["next_frames"][:, 0])
  wanted = call(variables, replaced, Sampling(BEHIND, jnp.ones((2, 4), bool)))
  np.testing.assert_allclose(reverse["frames"], wanted["frames"], rtol=1e-4, atol=1e-5)
  assert not np.allclose(reverse["tokens"][:, 1], call(variables, CLIP, None)["tokens"][:, 1], atol=1e-3)


def test_sampling_of_other_shapes_is_refused():
  """The message has the shapes that this clip and `future` need."""
  model = FEEDBACK["predrnn"]
  sampling = Sampling(BEHIND, jnp.ones((2, 3), bool))
  with pytest.raises(ValueError, match=r"given \(2, 3\) must be .* and \(2, 4\) for a clip of 3 frames and future=3"):
    jax.eval_shape(lambda v: model.apply(v, CLIP, train=True, sampling=sampling), feedback("predrnn")[0])


def test_shares_of_given_frames():
  """Drawn per clip and frame: 4 of 10 frames are of the clip, always given, the others one time in four."""
  given = draw_given(jax.random.key(0), 1000, 5, 7, share=0.25)
  assert given.shape == (1000, 10)
  np.testing.assert_array_equal(given[:, :4], True)
  np.testing.assert_allclose(given[:, 4:].mean(0), 0.25, atol=0.05)
  reverse = draw_given(jax.random.key(0), 1000, 5, 7, share=0.25, seen_share=0.5)
  np.testing.assert_allclose(reverse[:, :4].mean(0), 0.5, atol=0.05)


def test_shares_over_training_by_hand():
  """Linear: 2e-5 less per step. Reverse: a half each until 25,000; at 30,000 1 - exp(-1) / 2 and 0.4; at last 1, 0."""
  np.testing.assert_allclose([linear_share(s) for s in (0, 1, 25_000, 60_000)], [1, 1 - 2e-5, 0.5, 0], rtol=1e-6)
  pairs = np.array([reverse_shares(s) for s in (0, 24_999, 30_000, 50_000, 10**6)])
  np.testing.assert_allclose(pairs[:, 0], [0.5, 0.5, 1 - np.exp(-1) / 2, 1, 1], rtol=1e-6)
  np.testing.assert_allclose(pairs[:, 1], [0.5, 0.5, 0.4, 0, 0], rtol=1e-6)


def test_no_loop_accumulates_a_weight_gradient():
  """The gradient of a forecast has two loops, forwards and backwards, and neither carries anything like a kernel."""
  model = predrnn.Model(features=4, layers=2, kernel=3, patch=2, future=3)
  variables = draw(model, CLIP)
  program = jax.make_jaxpr(jax.grad(lambda v: model.apply(v, CLIP, train=True)["frames"].sum()))(variables)
  kernels = {leaf.shape for leaf in jax.tree.leaves(variables) if leaf.ndim > 1}
  assert len(scans(program)) == 2
  assert not carried(program) & kernels


def test_simvp_folds_frames_before_channels():
  """A first block that picks channel 1 x 2 + 0 of 3 frames of 2 channels hands on channel 0 of frame 1."""
  model = simvp.Model(features=2, width=4, blocks=2, scales=1, window=6, dilation=2)
  variables = draw(model, CLIP)
  params = variables["params"]
  blocks = params["translator"]
  for block in blocks.values():
    block["attention_scale"], block["mlp_scale"] = (0 * block[k] for k in ("attention_scale", "mlp_scale"))
    block["reduction"] = jax.tree.map(jnp.zeros_like, block["reduction"])
  blocks["block0"]["reduction"]["kernel"] = blocks["block0"]["reduction"]["kernel"].at[..., 2, 0].set(1.0)
  blocks["block1"]["reduction"]["kernel"] = blocks["block1"]["reduction"]["kernel"].at[..., 0, :].set(1.0)

  @jax.jit
  def both(variables):
    encoder = simvp.Encoder(2, 1, "float32")
    _, maps = encoder.apply({"params": variables["params"]["encoder"]}, patches.pad_frames(CLIP, 2))
    return model.apply(variables, CLIP, train=False)["tokens"], maps

  tokens, maps = both(variables)
  np.testing.assert_allclose(tokens, jnp.broadcast_to(maps[:, 1:2, ..., :1], maps.shape), rtol=1e-5, atol=1e-6)


def test_simvp_reads_its_predictions_for_more_frames_than_it_has_seen():
  """5 frames after 3 are three, and the first two that it makes of those three."""
  model = simvp.Model(**simvp.TINY | {"future": 5})
  variables = draw(model, CLIP)

  @jax.jit
  def both(variables):
    frames = model.apply(variables, CLIP, train=False)["frames"]
    return frames, model.clone(future=2).apply(variables, frames[:, :3], train=False)["frames"]

  frames, after = both(variables)
  assert frames.shape == (2, 5, 5, 6, 1)
  np.testing.assert_allclose(frames[:, 3:], after, rtol=1e-4, atol=1e-5)


def test_simvp_says_what_groups_divide():
  """3 frames of 4 channels have no 8 groups."""
  model = simvp.Model(translator="incepu", features=4, width=32, blocks=2)
  with pytest.raises(UserError, match="frames x features = 12 must be a multiple of groups = 8"):
    jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), CLIP)


def test_the_forecaster_goes_on_from_the_encoders_state():
  """One unit: the encoder's input gate is open, its candidate tanh(1), its forget gate shut, so it ends with tanh(1).

  The forecaster's input gate is shut, its forget gate half open, its output gate open: memory halves with every step,
  and frames are tanh(memory).
  """
  model = encoder_forecaster.Model(hidden=(1,), kernel=1, patch=1, future=2)
  video = jnp.ones((1, 2, 1, 1, 1))
  variables = jax.tree.map(jnp.zeros_like, draw(model, video))
  params = variables["params"]
  params["encoder0"]["forward0_input"]["bias"] = jnp.array([50.0, -50.0, 1.0, 0.0])
  params["forecaster0"]["bias"] = jnp.array([-50.0, -1.0, 0.0, 50.0])
  params["readout"]["kernel"] = jnp.ones_like(params["readout"]["kernel"])
  out = jax.jit(lambda v: model.apply(v, video, train=False))(variables)
  memory = np.tanh(1.0)
  np.testing.assert_allclose(out["tokens"].ravel(), [np.tanh(memory) / 2] * 2, rtol=1e-5)
  np.testing.assert_allclose(out["frames"].ravel(), np.tanh([memory / 2, memory / 4]), rtol=1e-5)


COUNTS = {
  ("conv_lstm_forecaster", "convlstm_s"): 11_675_648,
  ("predrnn", "predrnn"): 23_838_720,
  ("predrnn", "predrnn_v2"): 23_855_104,
  ("simvp", "incepu"): 57_946_113,
  ("simvp", "gsta"): 46_769_665,
  ("encoder_forecaster", "shi_256"): 13_524_496,
  ("encoder_forecaster", "shi_128_128"): 10_042_896,
  ("encoder_forecaster", "shi_128_64_64"): 7_585_296,
}


@pytest.mark.parametrize(("name", "preset"), COUNTS)
def test_published_numbers_of_parameters(name: str, preset: str):
  """On Moving MNIST: 10 frames of 64x64 and one channel; OpenSTL's live ones, and those of Shi et al., table 1."""
  module = find_module("model", name)
  video = jax.ShapeDtypeStruct((1, 10, 64, 64, 1), jnp.float32)
  init = functools.partial(module.Model(**module.PRESETS[preset]).init_with_output, train=False)
  out, variables = jax.eval_shape(init, jax.random.key(0), video)
  assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == COUNTS[name, preset]
  assert out["frames"].shape == (1, 10, 64, 64, 1)


@functools.partial(jax.jit, static_argnums=1)
def moving_dots(key: Any, batch: int) -> jax.Array:
  """A dot on 8x8 pixels, at the place `start` in frame 2, goes one pixel per frame in one of four directions; T = 5."""
  start_key, direction_key = jax.random.split(key)
  start = jax.random.randint(start_key, (batch, 1, 2), 2, 6)
  ways = jnp.array([[0, 1], [1, 0], [0, -1], [-1, 0]])[jax.random.randint(direction_key, (batch, 1), 0, 4)]
  place = start + ways * (jnp.arange(5) - 2)[None, :, None]
  rows, columns = (jax.nn.one_hot(place[..., axis], 8) for axis in (0, 1))
  return (rows[..., :, None] * columns[..., None, :])[..., None]


@pytest.mark.parametrize(
  "model",
  [
    conv_lstm_forecaster.Model(hidden=(8,), kernel=3, patch=1, future=2),
    encoder_forecaster.Model(hidden=(8,), kernel=3, patch=1, future=2),
  ],
  ids=["conv_lstm", "encoder_forecaster"],
)
def test_a_forecaster_learns_where_a_dot_goes(model: Any):
  """After 3 frames of a moving dot the next 2 are known: a tenth of a black frame's error, a 20th of the last's."""
  params = draw(model, moving_dots(jax.random.key(0), 1))
  tx = optax.adam(0.02)

  def loss(params, video):
    frames = model.apply(params, video[:, :3], train=True)["frames"]
    return jnp.square(frames - video[:, 3:]).mean((0, 2, 3, 4)).sum()

  @jax.jit
  def step(number, params, state):
    video = moving_dots(jax.random.key(number), 8)
    value, grads = jax.value_and_grad(loss)(params, video)
    updates, state = tx.update(grads, state)
    return optax.apply_updates(params, updates), state, value

  state = tx.init(params)
  for number in range(60):
    params, state, value = step(number, params, state)
  fresh = moving_dots(jax.random.key(1000), 16)
  black, last = (2 * float(jnp.square(fresh[:, 4] - frame).mean()) for frame in (0.0, fresh[:, 2]))
  assert float(value) < min(black / 10, last / 20)


def torch_tree(torch: Any, tree: Any) -> Any:
  """Parameters as torch's: kernels (kh kw C D) as (D C kh kw)."""
  turn = lambda a: np.transpose(a, (3, 2, 0, 1)) if a.ndim == 4 else np.asarray(a)  # noqa: E731
  return jax.tree.map(lambda a: torch.tensor(np.ascontiguousarray(turn(a))), tree)


def torch_st_lstms(torch: Any, p: Any, clip: Any, given: Any, layers: int) -> tuple[Any, Any]:
  """Predictions and decoupling of the ST-LSTM stack, step by step, on frames (B S P h w); `given` is (B S)."""
  conv = lambda x, kernel: torch.nn.functional.conv2d(x, kernel["kernel"], padding="same")  # noqa: E731
  cell, gate = p["stack"]["layers"], torch.sigmoid
  width = cell["layer0"]["last"]["kernel"].shape[0]
  zero = torch.zeros(len(clip), width, *clip.shape[3:])
  hidden, memory, m, predicted, penalties = [zero] * layers, [zero] * layers, zero, [torch.zeros_like(clip[:, 0])], []
  for t in range(clip.shape[1]):
    x = torch.where(given[:, t, None, None, None], clip[:, t], predicted[-1])
    for k in range(layers):
      own, source = cell[f"layer{k}"], p["stack"]["input0"] if k == 0 else cell[f"input{k}"]
      i, f, g, i_m, f_m, g_m, o = conv(x, source).chunk(7, dim=1)
      a, b, c, d = conv(hidden[k], own["hidden"]).chunk(4, dim=1)
      delta = gate(i + a) * torch.tanh(g + c)
      memory[k] = gate(f + b + 1) * memory[k] + delta
      a, b, c = conv(m, own["zigzag"]).chunk(3, dim=1)
      delta_m = gate(i_m + a) * torch.tanh(g_m + c)
      m = gate(f_m + b + 1) * m + delta_m
      both = torch.cat([memory[k], m], dim=1)
      x = hidden[k] = gate(o + d + conv(both, own["output"])) * torch.tanh(conv(both, own["last"]))
      pair = [conv(v, cell["decoupling"]["adapter"]).flatten(2) for v in (delta, delta_m)]
      penalties.append(torch.cosine_similarity(*pair, dim=2).abs().mean(1))
    predicted.append(conv(x, p["readout"]))
  return torch.stack(predicted[1:], dim=1), torch.stack(penalties).mean(0)


def test_predrnn_v2_is_that_of_torch():
  """Two layers over 5 steps with a mask of given frames: predictions, decoupling, and the gradient of both."""
  torch = peer("torch")
  model, (variables, *_) = FEEDBACK["predrnn"], feedback("predrnn")
  video, behind = CLIP[:, :, :4], BEHIND[:, :, :4]  # of 4x6 pixels, which patches fill
  given = jnp.array([[True, False, True, False], [False, True, False, True]])

  @jax.jit
  @functools.partial(jax.value_and_grad, argnums=1, has_aux=True)
  def ours(params, video):
    out = model.apply({"params": params}, video, train=True, sampling=Sampling(behind, given))
    every = jnp.concatenate([out["next_frames"], out["frames"][:, 1:]], axis=1)
    return (every**2).sum() + out["decoupling"].sum(), (every, out["decoupling"])

  (_, (every, decoupling)), slope = ours(variables["params"], video)
  p = torch_tree(torch, variables["params"])["cell"]
  known = torch.tensor(np.concatenate([video, behind[:, :2]], axis=1), requires_grad=True)
  # (B S H W 1) as (B S P h w) with P = (row, column) of the patch
  folded = known[..., 0].unflatten(3, (3, 2)).unflatten(2, (2, 2)).permute(0, 1, 3, 5, 2, 4).flatten(2, 3)
  mask = torch.tensor(np.concatenate([np.ones((2, 1), bool), given], axis=1))
  predicted, penalty = torch_st_lstms(torch, p, folded, mask, model.layers)
  ((predicted**2).sum() + penalty.sum()).backward()
  unfolded = predicted.unflatten(2, (2, 2)).permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3)[..., None]
  np.testing.assert_allclose(every, unfolded.detach(), rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(decoupling, penalty.detach(), rtol=1e-4)
  np.testing.assert_allclose(slope, known.grad[:, :3], rtol=1e-4, atol=1e-5)


def torch_stage(torch: Any, x: Any, p: Any, resize: str) -> Any:
  """ConvSC, on frames (N C H W)."""
  f = torch.nn.functional
  y = f.conv2d(x, p["conv"]["kernel"], p["conv"]["bias"], stride=2 if resize == "down" else 1, padding=1)
  y = f.pixel_shuffle(y, 2) if resize == "up" else y
  return f.silu(f.group_norm(y, 2, p["norm"]["scale"], p["norm"]["bias"]))


def torch_gated(torch: Any, x: Any, p: Any, stats: Any, window: int, dilation: int) -> Any:
  """A block of gSTA in evaluation, on (B C h w)."""
  f = torch.nn.functional
  normed = lambda x, n: f.batch_norm(x, stats[n]["mean"], stats[n]["var"], p[n]["scale"], p[n]["bias"])  # noqa: E731

  def conv(x, q, dilation=1):
    groups = x.shape[1] // q["kernel"].shape[1]
    return f.conv2d(x, q["kernel"], q["bias"], padding="same", dilation=dilation, groups=groups)

  a, short = p["attention"], normed(x, "attention_norm")
  assert (a["near"]["kernel"].shape[-1], a["far"]["kernel"].shape[-1]) == (2 * dilation - 1, window // dilation)
  y = conv(conv(f.gelu(conv(short, a["expand"])), a["near"]), a["far"], dilation)
  value, gate = conv(y, a["gates"]).chunk(2, dim=1)
  y = conv(torch.sigmoid(gate) * value, a["project"]) + short
  x = x + p["attention_scale"][:, None, None] * y
  y = conv(f.gelu(conv(conv(normed(x, "mlp_norm"), p["mlp"]["expand"]), p["mlp"]["mix"])), p["mlp"]["project"])
  x = x + p["mlp_scale"][:, None, None] * y
  return conv(x, p["reduction"]) if "reduction" in p else x


def torch_inception(torch: Any, x: Any, p: Any, groups: int) -> Any:
  """A block of IncepU, on (B C h w)."""
  f = torch.nn.functional
  x = f.conv2d(x, p["squeeze"]["kernel"], p["squeeze"]["bias"])
  total = 0
  for k in (3, 5, 7, 11):
    q, n = p[f"conv{k}"], p[f"norm{k}"]
    y = f.conv2d(x, q["kernel"], q["bias"], padding=k // 2, groups=groups)
    total = total + f.leaky_relu(f.group_norm(y, groups, n["scale"], n["bias"]), 0.2)
  return total


def torch_simvp(torch: Any, variables: Any, video: Any, model: Any) -> Any:
  """Frames (B T C H W) after as many; `torch_tree` has turned the variables."""
  p, batch = variables["params"], len(video)
  x = skip = torch_stage(torch, video.flatten(0, 1), p["encoder"]["stage0"], "keep")
  for i in range(1, 2 * model.scales):
    x = torch_stage(torch, x, p["encoder"][f"stage{i}"], "down" if i % 2 else "keep")
  folded, blocks = x.reshape(batch, -1, *x.shape[2:]), p["translator"]
  if model.translator == "gsta":
    for i in range(model.blocks):
      stats = variables["batch_stats"]["translator"][f"block{i}"]
      folded = torch_gated(torch, folded, blocks[f"block{i}"], stats, model.window, model.dilation)
  else:
    skips = []
    for i in range(model.blocks):
      folded = torch_inception(torch, folded, blocks[f"encoder{i}"], model.groups)
      skips.append(folded)
    for i in range(model.blocks):
      joined = torch.cat([folded, skips[-1 - i]], dim=1) if i else folded
      folded = torch_inception(torch, joined, blocks[f"decoder{i}"], model.groups)
  x = folded.reshape(x.shape)
  for i in range(2 * model.scales):
    x = x + skip if i == 2 * model.scales - 1 else x
    x = torch_stage(torch, x, p["decoder"][f"stage{i}"], "keep" if i % 2 else "up")
  q = p["decoder"]["readout"]
  return torch.nn.functional.conv2d(x, q["kernel"], q["bias"]).reshape(video.shape)


@pytest.mark.parametrize("options", [{"window": 21, "dilation": 3}, {"translator": "incepu", "groups": 4, "blocks": 3}])
def test_simvp_is_that_of_torch(options: dict[str, Any]):
  """All of it, evaluated: folding of frames, PixelShuffle, both translators, the skip; 12x8 pixels, halved twice."""
  torch = peer("torch")
  model = simvp.Model(**{"features": 4, "width": 16, "blocks": 2, "mlp_ratio": 2.0, "future": 3} | options)
  video = jax.random.normal(jax.random.key(0), (2, 3, 12, 8, 2))
  variables = draw(model, video)
  found = jax.jit(lambda v: model.apply(v, video, train=False)["frames"])(variables)
  clip = torch.tensor(np.moveaxis(np.asarray(video), -1, 2))
  wanted = torch_simvp(torch, torch_tree(torch, variables), clip, model)
  np.testing.assert_allclose(found, np.moveaxis(wanted.numpy(), 2, -1), rtol=1e-4, atol=1e-5)
