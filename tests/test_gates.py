"""Gates on channels, temporal shift, stochastic depth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vu_jax.layers.convolution.shift import causal_shift, temporal_shift
from vu_jax.layers.drop import DropPath, depth_rates
from vu_jax.layers.gates import SelfGating, SqueezeExcite, global_mean, squeezed_width

KEY = jax.random.key(0)
STREAM = jax.jit(causal_shift, static_argnames="fraction")


def normal(seed: int, *shape: int) -> jax.Array:
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def sigmoid(x: np.ndarray) -> np.ndarray:
  return 1 / (1 + np.exp(-x))


def randomised(model, x: jax.Array):
  """Parameters with biases that are not zero."""
  params = model.init(KEY, x)["params"]
  leaves, tree = jax.tree.flatten(params)
  return jax.tree.unflatten(tree, [normal(i, *leaf.shape) for i, leaf in enumerate(leaves)])


def test_squeeze_excite_is_its_formula():
  """Against numpy: x * sigmoid(W2 relu(W1 mean + b1) + b2), one gate per clip and channel."""
  x, model = normal(1, 2, 3, 4, 5, 12), SqueezeExcite()
  p = jax.tree.map(np.asarray, randomised(model, x))
  hidden = np.maximum(np.asarray(x).mean((1, 2, 3)) @ p["squeeze"]["kernel"] + p["squeeze"]["bias"], 0)
  gate = sigmoid(hidden @ p["expand"]["kernel"] + p["expand"]["bias"])
  assert hidden.shape == (2, 8)
  np.testing.assert_allclose(model.apply({"params": p}, x), x * gate[:, None, None, None], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("use_bias", [False, True])
def test_self_gating_is_its_formula(use_bias: bool):
  """Against numpy: x * sigmoid(W mean + b), with b only on request."""
  x, model = normal(1, 2, 3, 4, 5, 6), SelfGating(use_bias)
  p = jax.tree.map(np.asarray, randomised(model, x))["gate"]
  assert ("bias" in p) == use_bias
  gate = sigmoid(np.asarray(x).mean((1, 2, 3)) @ p["kernel"] + p.get("bias", 0))
  np.testing.assert_allclose(model.apply({"params": {"gate": p}}, x), x * gate[:, None, None, None], rtol=1e-4)


def test_squeezed_widths_of_x3d():
  """The published narrow widths: 8, 8, 16 and, because 24 would take away more than a tenth of 27, 32."""
  assert [squeezed_width(c, 1 / 16) for c in (54, 108, 216, 432)] == [8, 8, 16, 32]


@settings(max_examples=25)
@given(st.integers(1, 3000), st.floats(0.01, 1), st.integers(1, 16))
def test_squeezed_widths_are_multiples_near_the_ratio(channels: int, ratio: float, multiple: int):
  """Whole multiples, never less than nine tenths of what was asked for, and less than one multiple off."""
  width = squeezed_width(channels, ratio, multiple)
  assert width % multiple == 0
  assert width >= max(multiple, 0.9 * channels * ratio)
  assert abs(width - channels * ratio) < multiple


@pytest.mark.parametrize("model", [SqueezeExcite(dtype="bfloat16"), SelfGating(dtype="bfloat16")])
def test_gates_in_bfloat16(model):
  """Parameters stay float32, results are bfloat16 and close to the float32 ones."""
  x = normal(1, 2, 3, 4, 4, 8)
  rough, variables = model.init_with_output(KEY, x)
  exact = model.clone(dtype="float32").apply(variables, x)
  assert rough.dtype == jnp.bfloat16
  assert {p.dtype for p in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
  assert 0 < jnp.linalg.norm(rough.astype(jnp.float32) - exact) < 0.02 * jnp.linalg.norm(exact)


def test_the_mean_of_bfloat16_is_summed_in_float32():
  """4,096 values of 1.0078125: a sum in bfloat16 would stick long before the end."""
  x = jnp.full((1, 4, 32, 32, 2), 1.0078125, jnp.bfloat16)
  mean = global_mean(x)
  assert mean.dtype == jnp.float32
  np.testing.assert_allclose(mean, 1.0078125, rtol=1e-5)


def test_a_ratio_must_be_positive():
  """The message names the ratio."""
  with pytest.raises(ValueError, match=r"ratio -0\.5"):
    SqueezeExcite(-0.5).init(KEY, jnp.zeros((1, 1, 1, 1, 4)))


FRAMES = jnp.asarray([[11, 12, 13, 14], [21, 22, 23, 24], [31, 32, 33, 34]], jnp.float32).reshape(1, 3, 1, 1, 4)


def test_shift_by_hand():
  """A quarter of four channels: the first from the next frame, the second from the last one, zeros at the ends."""
  both = temporal_shift(FRAMES, 1 / 4)[0, :, 0, 0]
  np.testing.assert_array_equal(both, [[21, 0, 13, 14], [31, 12, 23, 24], [0, 22, 33, 34]])
  causal = temporal_shift(FRAMES, 1 / 4, "causal")[0, :, 0, 0]
  np.testing.assert_array_equal(causal, [[0, 12, 13, 14], [11, 22, 23, 24], [21, 32, 33, 34]])
  streamed, state = STREAM(FRAMES, fraction=1 / 4)
  np.testing.assert_array_equal(streamed[0, :, 0, 0], causal)
  assert state.tolist() == [[[[31]]]]


@pytest.mark.parametrize("mode", ["bidirectional", "causal"])
@pytest.mark.parametrize("steps", [1, 4])
def test_the_gradient_of_a_shift_is_its_transpose(mode: str, steps: int):
  """<shift(x), y> = <x, gradient>, and every value that left over an end gets no gradient."""
  x, y = normal(1, 2, steps, 2, 3, 8), normal(2, 2, steps, 2, 3, 8)
  shifted, pull = jax.vjp(lambda x: temporal_shift(x, 1 / 4, mode), x)
  (grad,) = pull(y)
  np.testing.assert_allclose((shifted * y).sum(), (x * grad).sum(), rtol=1e-4)
  np.testing.assert_allclose(grad[..., 4:], y[..., 4:])
  ends = grad[:, 0, ..., :2] if mode == "bidirectional" else grad[:, -1, ..., :2]
  np.testing.assert_array_equal(ends, 0)
  assert (grad != 0).mean() == (shifted != 0).mean()


def test_the_causal_shift_does_not_see_the_future():
  """A change of the last frame changes its own output and none before; the other form shows it one frame earlier."""
  x, changed = normal(1, 1, 4, 2, 2, 8), normal(1, 1, 4, 2, 2, 8).at[:, 3].add(1.0)
  before, after = (temporal_shift(v, mode="causal") for v in (x, changed))
  np.testing.assert_array_equal(before[:, :3], after[:, :3])
  assert not np.allclose(before[:, 3], after[:, 3])
  before, after = (temporal_shift(v) for v in (x, changed))
  np.testing.assert_array_equal(before[:, :2], after[:, :2])
  assert not np.allclose(before[:, 2], after[:, 2])


@settings(max_examples=20)
@given(st.lists(st.integers(1, 3), min_size=1, max_size=4), st.sampled_from([1 / 8, 1.0]))
def test_streaming_a_shift_equals_the_clip(chunks: list[int], fraction: float):
  """Any split of a clip into calls gives the frames of the clip in one call, bit for bit."""
  x, moved = np.asarray(normal(1, 2, sum(chunks), 1, 2, 8)), int(8 * fraction)
  state, outs = None, []
  for part in np.split(x, np.cumsum(chunks)[:-1], axis=1):
    out, state = STREAM(part, state, fraction=fraction)
    outs.append(out)
  clip = x.copy()
  clip[:, 1:, ..., :moved], clip[:, 0, ..., :moved] = x[:, :-1, ..., :moved], 0
  np.testing.assert_array_equal(np.concatenate(outs, axis=1), clip)


def test_shifts_that_move_nothing_or_too_much_are_errors():
  """The message names the fraction, the channels and the range that works."""
  with pytest.raises(ValueError, match=r"0\.125 moves 0 of 4 channels .* from 0\.25 to 0\.5"):
    temporal_shift(FRAMES)
  with pytest.raises(ValueError, match=r"0\.75 moves 3 of 4 channels in 2"):
    temporal_shift(FRAMES, 0.75)
  np.testing.assert_array_equal(temporal_shift(FRAMES, 0.5)[0, 1, 0, 0], [31, 32, 13, 14])


def test_a_shift_keeps_the_dtype():
  """Moving is exact in bfloat16 too."""
  x = normal(1, 1, 3, 1, 1, 8).astype(jnp.bfloat16)
  assert temporal_shift(x).dtype == temporal_shift(x, mode="causal").dtype == jnp.bfloat16


def drop(rate: float, x: jax.Array, train: bool = True, seed: int = 0) -> jax.Array:
  return DropPath(rate).apply({}, x, train=train, rngs={"dropout": jax.random.key(seed)})


def test_drop_path_drops_whole_clips_and_keeps_the_expectation():
  """2,000 clips: each is all zero or all x / (1 - rate), a quarter are zero, the mean is that of x."""
  x = jnp.full((2000, 2, 3), 3.0)
  out = np.asarray(drop(0.25, x))
  assert set(np.unique(out)) == {0.0, 4.0}
  assert (out == out[:, :1, :1]).all()
  assert abs((out[:, 0, 0] == 0).mean() - 0.25) < 0.03
  assert abs(out.mean() - 3) < 0.12


def test_drop_path_is_the_identity_without_training_or_rate():
  """No rng is needed there, and nothing changes."""
  x = normal(1, 4, 5)
  np.testing.assert_array_equal(DropPath(0.5).apply({}, x, train=False), x)
  np.testing.assert_array_equal(DropPath(0.0).apply({}, x, train=True), x)


def test_drop_path_follows_its_key_and_keeps_the_dtype():
  """The same key drops the same clips, another key others; kept bfloat16 values are scaled in float32."""
  x = jnp.full((64, 3), 3.0, jnp.bfloat16)
  np.testing.assert_array_equal(drop(0.4, x), drop(0.4, x))
  assert (drop(0.4, x) != drop(0.4, x, seed=1)).any()
  assert drop(0.4, x).dtype == jnp.bfloat16
  assert drop(0.4, x).max() == jnp.asarray(5.0, jnp.bfloat16)


def test_drop_path_stops_bad_values_and_their_gradients():
  """A clip whose branch is dropped is zero even if the branch overflowed, and gets a zero gradient."""
  x = jnp.full((16, 2), jnp.inf)
  dropped = np.asarray(drop(0.5, jnp.ones((16, 2)))[:, 0] == 0)
  assert dropped.any()
  assert (np.asarray(drop(0.5, x))[dropped] == 0).all()
  grad = jax.grad(lambda x: drop(0.5, x).sum())(jnp.ones((16, 2)))
  np.testing.assert_array_equal(grad, np.where(dropped, 0.0, 2.0)[:, None].repeat(2, 1))


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5])
def test_rates_outside_the_range_are_errors(rate: float):
  """In evaluation too, so that a wrong config does not wait for training."""
  with pytest.raises(ValueError, match=f"rate {rate}"):
    DropPath(rate).apply({}, jnp.ones((1, 1)), train=False)
  with pytest.raises(ValueError, match=f"rate {rate}"):
    depth_rates(rate, 3)


def test_rates_grow_linearly_with_depth():
  """From zero at the first block to the given rate at the last."""
  np.testing.assert_allclose(depth_rates(0.2, 5), [0, 0.05, 0.1, 0.15, 0.2])
  assert depth_rates(0.2, 1) == (0.0,)
