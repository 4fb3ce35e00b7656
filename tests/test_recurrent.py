"""LAYERS: recurrence over time."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from peers import peer

from vu_jax.layers.recurrence import attention_lstm, cells, predrnn
from vu_jax.layers.recurrence.attention_lstm import AttentionLSTM
from vu_jax.layers.recurrence.cells import HiddenState, LSTMState
from vu_jax.layers.recurrence.predrnn import PredRNN
from vu_jax.layers.recurrence.recurrent import GRU, LSTM, RNN, ConvGRU, ConvLSTM

CLIP = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 3)), jnp.float32)
MAPS = jnp.asarray(np.random.default_rng(1).normal(size=(2, 3, 3, 4, 3)), jnp.float32)
LAYERS = {
  "rnn": RNN(4),
  "rnn norm relu": RNN(4, layer_norm=True, activation="relu"),
  "lstm": LSTM(4),
  "lstm norm peephole": LSTM(4, layer_norm=True, peephole="channel"),
  "gru": GRU(4),
  "gru norm": GRU(4, layer_norm=True),
  "conv_lstm": ConvLSTM(4, unroll=1),
  "conv_lstm peephole": ConvLSTM(4, peephole="position"),  # unrolled on the CPU
  "conv_gru": ConvGRU(4, unroll=1),
  "conv_gru norm": ConvGRU(4, layer_norm=True, unroll=1),
  "predrnn": PredRNN(4, layers=2, kernel=2),
  "predrnn norm": PredRNN(4, layers=2, kernel=1, layer_norm=True),
  "attention": AttentionLSTM(4, attention=5, peephole="channel"),
}
PLAIN = ["rnn", "lstm", "gru", "conv_lstm", "conv_gru", "predrnn", "attention"]


def clip_of(layer: Any) -> jax.Array:
  return CLIP if isinstance(layer, RNN | LSTM | GRU) else MAPS


def draw(layer: Any, x: jax.Array) -> Any:
  """Random parameters, all of them away from their start (norms, biases and peepholes are constant there)."""
  shapes = jax.eval_shape(layer.init, jax.random.key(0), x)["params"]
  random = np.random.default_rng(0)
  return jax.tree.map(lambda s: jnp.asarray(random.normal(0.0, 0.5, s.shape), s.dtype), shapes)


@functools.cache
def initialised(name: str) -> Any:
  return draw(LAYERS[name], clip_of(LAYERS[name]))


def run(layer: Any, params: Any, x: jax.Array, state: Any = None, **kwargs: Any) -> tuple[jax.Array, Any]:
  """(output, state); the attention maps of `AttentionLSTM` are tested on their own."""
  return layer.apply({"params": params}, x, state, **kwargs)[:2]


def zero_state(layer: Any, x: jax.Array) -> Any:
  return layer.zero_state(len(x)) if isinstance(layer, AttentionLSTM) else layer.zero_state(len(x), *x.shape[2:-1])


def assert_close(found: Any, wanted: Any, tolerance: float = 1e-5) -> None:
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), found, wanted)


def plain_map(x: jax.Array, params: Any, norm_groups: tuple[int, ...]) -> jax.Array:
  """The input's part of the gates of one frame, by XLA's own ops."""
  kernel = params["kernel"]
  names = ("NHWC", "HWIO", "NHWC")
  conv = functools.partial(jax.lax.conv_general_dilated, window_strides=(1, 1), padding="SAME", dimension_numbers=names)
  gates = conv(x, kernel) if kernel.ndim == 4 else x @ kernel
  if not norm_groups:
    return gates + params["bias"]
  parts = jnp.split(gates, np.cumsum(norm_groups)[:-1], axis=-1)
  names = ["norm"] if len(parts) == 1 else ["norm0", "norm1"]
  normed = [nn.LayerNorm(1e-5).apply({"params": params[n]}, p) for n, p in zip(names, parts, strict=True)]
  return jnp.concatenate(normed, axis=-1)


def by_loop(layer: Any, params: Any, x: jax.Array, state: Any) -> tuple[jax.Array, Any]:
  """The same layer as a Python loop over its cell, differentiated ordinarily."""
  if isinstance(layer, AttentionLSTM):
    cell, names = attention_lstm.AttentionLSTMCell(4, peephole=layer.peephole), ("keys", "cell")
  elif isinstance(layer, PredRNN):
    options = (layer.layers, (layer.kernel,) * 2, layer.hidden_scale, layer.forget_bias, layer.layer_norm, "float32")
    cell, names = predrnn.PredRNNCell(4, *options), ("input", "cell")
  else:
    cell, names, state = layer._cell(), ("forward0_input", "forward0_cell"), state[0]
  sizes = {GRU: (8, 4), ConvGRU: (8, 4), LSTM: (16,), RNN: (4,), PredRNN: (28,)}.get(type(layer), ())
  outputs = []
  for t in range(x.shape[1]):
    flat = x[:, t].reshape(len(x), -1, 3) if isinstance(layer, AttentionLSTM) else x[:, t]
    gates = plain_map(flat, params[names[0]], sizes if getattr(layer, "layer_norm", False) else ())
    inputs = (flat, gates) if isinstance(layer, AttentionLSTM) else gates
    state, extras = cell.apply({"params": params[names[1]]}, state, inputs)
    outputs.append(state.hidden if extras is None else jnp.concatenate([extras[0], state.hidden], axis=-1))
  return jnp.stack(outputs, axis=1), state if isinstance(layer, PredRNN | AttentionLSTM) else (state,)


@pytest.mark.parametrize("name", sorted(set(LAYERS) - {"rnn", "lstm", "conv_gru", "predrnn"}))
def test_a_layer_is_a_loop_over_its_cell(name: str):
  """Values, final state, and the gradients of parameters, inputs and initial state are those of a Python loop."""
  layer, params = LAYERS[name], initialised(name)
  x = clip_of(layer)[:, :2]
  state = jax.tree.map(lambda a: a + 0.5, zero_state(layer, x))

  def gradients(function):
    def objective(params, x, state):
      out = function(layer, params, x, state)
      return sum((a * jnp.sin(jnp.arange(a.size).reshape(a.shape))).sum() for a in jax.tree.leaves(out)), out

    return jax.jit(jax.value_and_grad(objective, (0, 1, 2), has_aux=True))(params, x, state)

  (found_sum, found), found_grads = gradients(run)
  (wanted_sum, wanted), wanted_grads = gradients(by_loop)
  assert_close((found_sum, found), (wanted_sum, wanted))
  for path, grad in jax.tree_util.tree_leaves_with_path(found_grads[0]):
    assert jnp.any(grad != 0), jax.tree_util.keystr(path)
  scale = max(float(jnp.abs(a).max()) for a in jax.tree.leaves(wanted_grads))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * scale), found_grads, wanted_grads)


@pytest.mark.parametrize("name", PLAIN)
def test_streaming_equals_the_clip(name: str):
  """Frame by frame, with the state handed on: outputs and final state of the clip in one call."""
  layer, params = LAYERS[name], initialised(name)
  x = clip_of(layer)
  step = jax.jit(functools.partial(run, layer))
  whole, final = step(params, x)
  state, parts = zero_state(layer, x), []
  for frame in jnp.split(x, x.shape[1], axis=1):
    out, state = step(params, frame, state)
    parts.append(out)
  assert_close((jnp.concatenate(parts, axis=1), state), (whole, final))


def stacked(name: str) -> Any:
  return LAYERS[name].clone(layers=2, bidirectional=True) if name in ("lstm", "gru", "conv_lstm") else LAYERS[name]


@pytest.mark.parametrize("name", PLAIN)
def test_padding_changes_nothing(name: str):
  """A clip of 2 frames padded with NaN to 3 has the outputs, state and gradients of the unpadded one; then zeros."""
  layer = stacked(name)
  x = clip_of(layer)[:1]
  params = draw(layer, x)

  def objective(params):
    long = run(layer, params, x.at[:, 2:].set(jnp.nan), mask=jnp.array([[1.0, 1, 0]]))
    short = run(layer, params, x[:, :2])
    return (long[0] ** 2).sum() - (short[0] ** 2).sum(), (long, short)

  grads, ((long, long_state), (short, short_state)) = jax.jit(jax.grad(objective, has_aux=True))(params)
  assert_close((long[:, :2], long_state), (short, short_state))
  np.testing.assert_array_equal(long[:, 2:], 0)
  assert_close(grads, jax.tree.map(jnp.zeros_like, grads), 1e-4)


def test_directions_and_stacking():
  """The backward half is the forward one of the reversed clip; layer 1 reads both halves of layer 0."""
  layer = GRU(4, layers=2, bidirectional=True)
  params = draw(layer, CLIP)
  single = jax.jit(functools.partial(run, GRU(4)))

  def pass_over(which, x):
    mine = {f"forward0_{part}": params[f"{which}_{part}"] for part in ("input", "cell")}
    out, (state,) = single(mine, x[:, ::-1] if "backward" in which else x)
    return (out[:, ::-1] if "backward" in which else out), state

  x, states = CLIP, []
  for k in range(2):
    outputs, ends = zip(*[pass_over(f"{d}{k}", x) for d in ("forward", "backward")], strict=True)
    x = jnp.concatenate(outputs, axis=-1)
    states += ends
  assert_close(jax.jit(functools.partial(run, layer))(params, CLIP), (x, tuple(states)))


@pytest.mark.parametrize("name", ["lstm norm peephole", "conv_gru", "attention"])
def test_remat_and_unroll_change_nothing(name: str):
  """Values and gradients are the same when steps are recomputed or unrolled."""
  layer, params = LAYERS[name], initialised(name)
  x = clip_of(layer)

  def objective(params, **changes):
    return (run(layer.clone(**changes), params, x)[0] ** 2).sum()

  wanted, *found = jax.jit(
    lambda p: [jax.value_and_grad(functools.partial(objective, **c))(p) for c in ({}, {"remat": True}, {"unroll": 2})]
  )(params)
  for other in found:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), other, wanted)


@pytest.mark.parametrize("name", PLAIN)
def test_bfloat16_is_close(name: str):
  """Half the bits in computation and state, float32 parameters and gradients."""
  layer, params = LAYERS[name], initialised(name)
  x = clip_of(layer)
  rough_layer = layer.clone(dtype="bfloat16")

  def objective(params):
    out = run(rough_layer, params, x)
    return out[0].astype("float32").sum(), out

  exact = jax.jit(functools.partial(run, layer))(params, x)[0]
  grads, (rough, state) = jax.jit(jax.grad(objective, has_aux=True))(params)
  assert {a.dtype for a in jax.tree.leaves((rough, state))} == {jnp.dtype("bfloat16")}
  assert {a.dtype for a in jax.tree.leaves(grads)} == {jnp.dtype("float32")}
  assert 0 < jnp.linalg.norm(rough.astype("float32") - exact) < 0.03 * jnp.linalg.norm(exact)


def one_step(cell: Any, params: Any, state: Any, gates: list[float]) -> Any:
  return cell.apply({"params": params}, state, jnp.array([gates]))[0]


def test_one_step_of_the_lstm_by_hand():
  """Gates i, f, g, o = 0, -1, log 3, 0 with forget bias 1, hidden 0 and memory 2.

  i = f = o = sigmoid(0) = 1/2, tanh(log 3) = (9 - 1) / (9 + 1) = 0.8;
  c' = 1/2 x 2 + 1/2 x 0.8 = 1.4, h' = 1/2 tanh(1.4) = 0.442676. Hidden 1 with kernel (0, 0, -log 3, 0) makes g zero:
  c' = 1.
  """
  params = {"hidden": {"kernel": jnp.array([[0.0, 0.0, -np.log(3), 0.0]])}}
  step = functools.partial(one_step, cells.LSTMCell(1), params)
  new = step(LSTMState(jnp.zeros((1, 1)), jnp.full((1, 1), 2.0)), [0.0, -1.0, np.log(3), 0.0])
  assert float(new.memory[0, 0]) == pytest.approx(1.4)
  assert float(new.hidden[0, 0]) == pytest.approx(0.442676, rel=1e-5)
  other = step(LSTMState(jnp.ones((1, 1)), jnp.full((1, 1), 2.0)), [0.0, -1.0, np.log(3), 0.0])
  assert float(other.memory[0, 0]) == pytest.approx(1.0)


def test_peepholes_by_hand():
  """Weights (1, -1, 3) and memory 2: i sees 1 x 2, f sees -1 x 2, o sees 3 times the new memory."""
  params = {"hidden": {"kernel": jnp.zeros((1, 4))}, "peephole": jnp.array([[1.0], [-1.0], [3.0]])}
  state = LSTMState(jnp.zeros((1, 1)), jnp.full((1, 1), 2.0))
  new = one_step(cells.LSTMCell(1, forget_bias=0.0, peephole="channel"), params, state, [0.1, 0.2, 0.3, 0.4])
  sigmoid = lambda v: 1 / (1 + np.exp(-v))  # noqa: E731
  memory = sigmoid(0.2 - 2) * 2 + sigmoid(0.1 + 2) * np.tanh(0.3)
  assert float(new.memory[0, 0]) == pytest.approx(memory, rel=1e-5)
  assert float(new.hidden[0, 0]) == pytest.approx(sigmoid(0.4 + 3 * memory) * np.tanh(memory), rel=1e-5)


def test_peepholes_have_the_size_they_say():
  """One weight per gate and channel, or per gate, position and channel (Shi et al.); they start at zero."""
  for peephole, shape in (("channel", (3, 4)), ("position", (3, 3, 4, 4))):
    params = ConvLSTM(4, peephole=peephole).init(jax.random.key(0), MAPS)["params"]
    assert params["forward0_cell"]["peephole"].shape == shape
    np.testing.assert_array_equal(params["forward0_cell"]["peephole"], 0)


def test_one_step_of_the_grus_by_hand():
  """Gates r, z, n = 0, log 3, 0, hidden 2, kernels 0, 0, 1: r = 1/2, z = 3/4; h' takes 3/4 of the old, or of the new.

  torch's GRU: n = tanh(1/2 (2 + b)) with b = 1, h' = 1/4 n + 3/4 2. ConvGRU: n = tanh(1/2 x 2), h' = 1/4 2 + 3/4 n.
  """
  state, gates = HiddenState(jnp.full((1, 1), 2.0)), [0.0, np.log(3), 0.0]
  params = {"hidden": {"kernel": jnp.array([[0.0, 0.0, 1.0]])}, "bias": jnp.ones(1)}
  new = one_step(cells.GRUCell(1), params, state, gates)
  assert float(new.hidden[0, 0]) == pytest.approx(np.tanh(1.5) / 4 + 1.5, rel=1e-5)
  params = {"hidden": {"kernel": jnp.zeros((1, 1, 1, 2))}, "candidate": {"kernel": jnp.ones((1, 1, 1, 1))}}
  maps = HiddenState(state.hidden.reshape(1, 1, 1, 1))
  new, _ = cells.ConvGRUCell(1, (1, 1)).apply({"params": params}, maps, jnp.array(gates).reshape(1, 1, 1, 3))
  assert float(new.hidden[0, 0, 0, 0]) == pytest.approx(0.5 + 0.75 * np.tanh(1.0), rel=1e-5)


def test_layer_norm_by_hand():
  """RNN of two units: LN of (3, 1) x 10 is (1, -1) whatever the scale; with weights 2 and bias 1 it adds (3, -1)."""
  params = {"hidden": {"kernel": 10 * jnp.eye(2)}, "hidden_norm": {"scale": jnp.full(2, 2.0), "bias": jnp.ones(2)}}
  new = one_step(cells.RNNCell(2, layer_norm=True), params, HiddenState(jnp.array([[3.0, 1.0]])), [-2.5, 0.5])
  np.testing.assert_allclose(new.hidden, np.tanh([[0.5, -0.5]]), rtol=1e-4)


def test_zoneout_keeps_old_values():
  """Training keeps the stated share of units, hidden and memory apart; evaluation takes the expectation."""
  layer = LSTM(64, zoneout=0.25, zoneout_memory=0.75)
  x, key = jax.random.normal(jax.random.key(0), (64, 1, 3)), jax.random.key(2)
  params = draw(layer, x)
  start = (LSTMState(*jax.random.normal(jax.random.key(3), (2, 64, 64))),)

  @jax.jit
  def all_three():
    free = run(layer.clone(zoneout=0.0, zoneout_memory=0.0), params, x, start)
    return free, run(layer, params, x, start), run(layer, params, x, start, train=True, rngs={"dropout": key})

  (_, (free,)), (_, (expected,)), (out, (drawn,)) = all_three()
  for field, rate in (("hidden", 0.25), ("memory", 0.75)):
    old, new = getattr(start[0], field), getattr(free, field)
    np.testing.assert_allclose(getattr(expected, field), rate * old + (1 - rate) * new, rtol=1e-5, atol=1e-6)
    kept = jnp.isclose(getattr(drawn, field), old, atol=1e-6)
    assert jnp.all(kept | jnp.isclose(getattr(drawn, field), new, atol=1e-6))
    assert float(kept.mean()) == pytest.approx(rate, abs=0.03)
  np.testing.assert_array_equal(out[:, 0], drawn.hidden)


def test_zoneout_of_a_clip_is_drawn_anew_at_every_step():
  """Inputs that always push to 1 and units that kept their zero: the share of zeros falls as 0.5, 0.25, 0.125."""
  layer = RNN(512, zoneout=0.5)
  x = jnp.ones((2, 3, 1))
  params = draw(layer, x)
  params["forward0_input"] = {"kernel": jnp.full((1, 512), 3.0), "bias": jnp.zeros(512)}
  params["forward0_cell"] = {"hidden": {"kernel": jnp.zeros((512, 512))}}
  out = run(layer, params, x, train=True, rngs={"dropout": jax.random.key(1)})[0]
  np.testing.assert_allclose((out == 0).mean((0, 2)), [0.5, 0.25, 0.125], atol=0.04)


def test_dropout_is_between_layers():
  """Of two layers the second sees other inputs in training; a single layer has nothing to drop."""
  rngs = {"dropout": jax.random.key(2)}
  for layers in (1, 2):
    layer = RNN(8, layers=layers, dropout=0.5)
    params = draw(layer, CLIP)
    quiet, (first, *_) = run(layer, params, CLIP)
    dropped, (first_dropped, *_) = run(layer, params, CLIP, train=True, rngs=rngs)
    assert_close(first_dropped, first)
    assert np.allclose(quiet, dropped) == (layers == 1)


def test_attention_looks_at_what_scores():
  """Maps sum to 1, the output is the attended feature and the hidden state, and a high score draws all attention."""
  layer, params = LAYERS["attention"], initialised("attention")
  look = jax.jit(lambda params, x: layer.apply({"params": params}, x))
  out, _, maps = look(params, MAPS)
  assert out.shape == (2, 3, 3 + 4)
  assert maps.shape == (2, 3, 3, 4)
  np.testing.assert_allclose(maps.sum((2, 3)), 1, rtol=1e-5)
  np.testing.assert_allclose(out[..., :3], jnp.einsum("bthw,bthwc->btc", maps, MAPS), rtol=1e-4, atol=1e-5)
  assert float(jnp.abs(maps - 1 / 12).max()) > 0.01
  bright = jnp.zeros_like(MAPS).at[:, :, 1, 2].set(jnp.array([5.0, -5.0, 2.0]))
  keen = params | {"keys": {"kernel": jnp.ones((3, 5)), "bias": jnp.zeros(5)}}
  keen["cell"] = params["cell"] | {"weigh": jnp.full(5, 50.0)}
  keen["cell"]["query"] = {"kernel": jnp.zeros((4, 5))}
  out, _, maps = look(keen, bright)
  np.testing.assert_allclose(maps[:, :, 1, 2], 1, rtol=1e-5)
  np.testing.assert_allclose(out[..., :3], bright[:, :, 1, 2], rtol=1e-4)


def test_the_second_memory_of_predrnn_zigzags():
  """M of the top layer reaches the lowest layer in the next step, and nothing else carries the top layer down."""
  layer, params = LAYERS["predrnn"], initialised("predrnn")
  zero = layer.zero_state(2, 3, 4)
  step = jax.jit(functools.partial(run, layer))
  _, plain = step(params, MAPS[:, :1], zero)
  top = LSTMState(zero.layers[1].hidden + 1, zero.layers[1].memory + 1)
  _, changed = step(params, MAPS[:, :1], zero._replace(layers=(zero.layers[0], top)))
  assert_close(changed.layers[0], plain.layers[0], 1e-7)
  assert not np.allclose(changed.hidden, plain.hidden)
  _, moved = step(params, MAPS[:, :1], zero._replace(zigzag=zero.zigzag + 1))
  assert not np.allclose(moved.layers[0].hidden, plain.layers[0].hidden)


TORCH = {"rnn": (RNN, 1, "RNN"), "lstm": (LSTM, 4, "LSTM"), "gru": (GRU, 3, "GRU")}


def from_torch(name: str, module: Any) -> dict[str, Any]:
  """torch's weights as our parameters: kernels transposed, both biases in one, but for that of the GRU's candidate."""
  params: dict[str, Any] = {}
  for layer in range(2):
    for direction, suffix in (("forward", ""), ("backward", "_reverse")):
      parts = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
      wi, wh, bi, bh = (getattr(module, f"{p}_l{layer}{suffix}").detach().numpy() for p in parts)
      inner = bh * (np.arange(len(bh)) >= 2 * module.hidden_size) if name == "gru" else 0 * bh
      params[f"{direction}{layer}_input"] = {"kernel": wi.T, "bias": bi + bh - inner}
      params[f"{direction}{layer}_cell"] = {"hidden": {"kernel": wh.T}}
      if name == "gru":
        params[f"{direction}{layer}_cell"]["bias"] = inner[-module.hidden_size :]
  return jax.tree.map(jnp.asarray, params)


@pytest.mark.parametrize("name", TORCH)
def test_parity_with_torch(name: str):
  """Two layers, both directions, with torch's weights: outputs, final states and the inputs' gradient are torch's."""
  torch = peer("torch")
  torch.manual_seed(0)
  ours, _, theirs = TORCH[name]
  module = getattr(torch.nn, theirs)(3, 4, num_layers=2, bidirectional=True, batch_first=True)
  layer = ours(4, layers=2, bidirectional=True, **({"forget_bias": 0.0} if name == "lstm" else {}))
  params = from_torch(name, module)
  wanted = jax.tree.map(jnp.shape, draw(layer, CLIP))
  assert jax.tree.map(jnp.shape, params) == wanted

  x = torch.tensor(np.asarray(CLIP), requires_grad=True)
  out, final = module(x)
  (out**2).sum().backward()
  finals = final if name == "lstm" else (final,)

  def objective(x):
    out, states = run(layer, params, x)
    return (out**2).sum(), (out, states)

  grad, (mine, states) = jax.jit(jax.grad(objective, has_aux=True))(CLIP)
  assert_close(mine, out.detach().numpy())
  for k, field in enumerate(finals):
    assert_close(jnp.stack([s[k] for s in states]), field.detach().numpy())
  assert_close(grad, x.grad.numpy())


WRONG = [
  (LSTM(4), MAPS, {}, r"LSTM takes \(B T C\), 3 axes; this input has 5: \(2, 3, 3, 4, 3\)"),
  (ConvGRU(4), CLIP, {}, r"ConvGRU takes \(B T h w C\), 5 axes; this input has 3"),
  (GRU(4), CLIP[:, :0], {}, "at least 1 frame, not 0"),
  (RNN(4), CLIP, {"mask": jnp.ones((5, 2))}, r"mask \(5, 2\) must be \(B T\), here \(2, 3\)"),
  (PredRNN(4), MAPS, {"mask": jnp.ones((2, 4))}, r"mask \(2, 4\)"),
  (RNN(4), CLIP, {"state": RNN(5).zero_state(2)}, r"\(2, 5\).* needs .*\(2, 4\).*zero_state"),
  (LSTM(4, layers=2), CLIP, {"state": LSTM(4).zero_state(2)}, "zero_state"),
  (LSTM(4, zoneout_memory=1.0), CLIP, {}, "zoneout_memory=1.0 must be at least 0 and below 1"),
  (LSTM(4, layers=2, dropout=-0.1), CLIP, {}, "dropout=-0.1"),
  (ConvLSTM(4, kernel=0), MAPS, {}, "kernel=0 must be at least 1"),
  (RNN(4, layers=0), CLIP, {}, "layers=0"),
  (PredRNN(4, layers=0), MAPS, {}, "layers=0"),
  (AttentionLSTM(4, attention=0), MAPS, {}, "attention=0"),
]


@pytest.mark.parametrize(("layer", "x", "arguments", "message"), WRONG)
def test_wrong_arguments(layer: Any, x: jax.Array, arguments: dict[str, Any], message: str):
  """One line that says what was given and what is needed, before anything is computed."""
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(functools.partial(layer.init, **arguments), jax.random.key(0), x)
