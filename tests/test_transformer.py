"""The transformer block, masked tokens and pooled attention."""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vu_jax.errors import UserError
from vu_jax.layers.attention.masked import MaskedDecoder, normalise_tubelets, take_tokens, to_tubelets, tube_mask
from vu_jax.layers.attention.multi_head import MultiHeadAttention
from vu_jax.layers.attention.pooled_attention import PooledAttention, RelativePositions, distances
from vu_jax.layers.attention.transformer import Block, ClassToken, gelu, run_blocks

KEY = jax.random.key(0)


def normal(seed: int, *shape: int) -> jax.Array:
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def random_params(module: nn.Module, *args: Any, **options: Any) -> Any:
  shapes = jax.eval_shape(functools.partial(module.init, **options), KEY, *args)
  rng = np.random.default_rng(0)
  return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) * 0.5, jnp.float32), shapes)


def test_gelu_by_hand():
  """x times the share of the normal distribution below x; the approximation is close and not equal."""
  x = np.array([-3.0, -1.0, 0.0, 0.5, 2.0])
  exact = [v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x]
  np.testing.assert_allclose(gelu(jnp.asarray(x, jnp.float32)), exact, atol=1e-6)
  difference = np.abs(gelu(jnp.asarray(x, jnp.float32), "tanh") - np.array(exact))
  assert 1e-5 < difference.max() < 1e-3


@pytest.mark.parametrize("form", ["exact", "tanh"])
def test_the_slope_of_gelu(form: Any):
  """The hand-made derivative is that of the differences, and in bfloat16 it is rounded once."""
  x = jnp.linspace(-3.0, 3.0, 13)
  slope = jax.jit(jax.grad(lambda v: gelu(v, form).sum()))
  step = 1e-2
  np.testing.assert_allclose(slope(x), (gelu(x + step, form) - gelu(x - step, form)) / (2 * step), atol=1e-3)
  rough = slope(x.astype(jnp.bfloat16))
  assert rough.dtype == jnp.bfloat16
  np.testing.assert_allclose(rough.astype(jnp.float32), slope(x.astype(jnp.bfloat16).astype(jnp.float32)), rtol=0.01)


def test_a_bias_of_the_keys_has_no_effect():
  """ "qv" leaves it out, and gives what any bias of the keys gives."""
  x, short, full = normal(1, 2, 5, 8), MultiHeadAttention(2, qkv_bias="qv"), MultiHeadAttention(2)
  params = random_params(short, x)["params"]
  assert params["query_bias"].shape == params["value_bias"].shape == (8,)
  assert "bias" not in params["qkv"]
  bias = jnp.concatenate([params["query_bias"], normal(2, 8) * 3, params["value_bias"]])
  same = {"qkv": {"kernel": params["qkv"]["kernel"], "bias": bias}, "out": params["out"]}
  np.testing.assert_allclose(short.apply({"params": params}, x), full.apply({"params": same}, x), rtol=1e-4, atol=1e-5)
  with pytest.raises(ValueError, match="for self-attention"):
    short.init(KEY, x, x)


def test_block_by_hand():
  """Norm in front of each branch, whose result is added; with the last kernel of the attention zero, its bias is."""
  x, block = np.asarray(normal(1, 2, 3, 4)), Block(2, 6)
  params = jax.tree.map(np.array, random_params(block, jnp.asarray(x), train=False)["params"])
  assert sorted(params) == ["attention", "attention_norm", "mlp", "mlp_norm"]
  params["attention"]["out"]["kernel"] *= 0
  found = jax.jit(functools.partial(block.apply, train=False))({"params": params}, jnp.asarray(x))
  x = x + params["attention"]["out"]["bias"]
  normed = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
  y = normed * params["mlp_norm"]["scale"] + params["mlp_norm"]["bias"]
  y = y @ params["mlp"]["up"]["kernel"] + params["mlp"]["up"]["bias"]
  y = y * 0.5 * (1 + np.vectorize(math.erf)(y / math.sqrt(2)))
  expected = x + y @ params["mlp"]["down"]["kernel"] + params["mlp"]["down"]["bias"]
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


class Stack(nn.Module):
  remat: bool = False
  first: int = 0

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    block = functools.partial(Block, 1, 4)
    return run_blocks(block, 2, x, train=True, remat=self.remat, first=self.first)


def test_stacks_number_their_blocks():
  """Names count from `first`; recomputing blocks does not change them."""
  x, shapes = normal(1, 1, 3, 4), lambda stack: jax.tree.map(jnp.shape, jax.eval_shape(stack.init, KEY, x)["params"])
  assert sorted(shapes(Stack())) == ["block0", "block1"]
  assert sorted(shapes(Stack(first=3))) == ["block3", "block4"]
  assert shapes(Stack(remat=True)) == shapes(Stack())


def test_class_token_stands_in_front():
  """Token plus position before each row of tokens; without a position, the token alone."""
  x = normal(1, 2, 3, 4, 5)
  params = random_params(ClassToken(), x)
  out = ClassToken().apply(params, x)
  np.testing.assert_array_equal(out[..., 1:, :], x)
  first = params["params"]["token"] + params["params"]["position"]
  np.testing.assert_allclose(out[..., 0, :], jnp.broadcast_to(first, (2, 3, 5)), rtol=1e-6)
  assert set(jax.eval_shape(ClassToken(positioned=False).init, KEY, x)["params"]) == {"token"}


def test_tubes_hide_the_same_places_in_all_frames():
  """Visible and masked tokens are the whole clip, in order; each clip has its own places."""
  visible, masked = (np.asarray(i) for i in tube_mask(KEY, 8, (3, 4, 5), 0.77))
  assert visible.shape == (8, 3 * 5)
  assert masked.shape == (8, 3 * 15)  # 15.4 of 20 places
  for seen, hidden in zip(visible, masked, strict=True):
    assert sorted([*seen, *hidden]) == list(range(60))
    assert (np.diff(seen) > 0).all()
    assert (np.diff(hidden) > 0).all()
    assert all((hidden[:15] + 20 * t == hidden[15 * t : 15 * t + 15]).all() for t in range(3))
  assert len({tuple(seen) for seen in visible}) > 1
  for wrong in (0.0, 0.01, 1.0):
    with pytest.raises(UserError, match="at least 1, and not all"):
      tube_mask(KEY, 1, (3, 4, 5), wrong)


def test_tubelets_by_hand():
  """Pixels of each token, and their normalisation for each channel alone with P - 1 in the deviation."""
  video = normal(1, 1, 4, 6, 4, 2)
  tubelets = to_tubelets(video, (2, 3, 2))
  assert tubelets.shape == (1, 2 * 2 * 2, 12, 2)
  part = np.asarray(video)[0, 2:4, 0:3, 2:4].reshape(12, 2)  # t 1, h 0, w 1
  np.testing.assert_array_equal(take_tokens(tubelets, jnp.asarray([[5]]))[0, 0], part)
  expected = (part - part.mean(0)) / (part.std(0, ddof=1) + 1e-6)
  np.testing.assert_allclose(normalise_tubelets(tubelets)[0, 5], expected.ravel(), rtol=1e-4, atol=1e-5)
  with pytest.raises(UserError, match="width is 4: patches need a multiple of 3"):
    to_tubelets(video, (2, 3, 3))


def test_decoder_knows_tokens_by_their_index_only():
  """Visible tokens in another order predict the same; masked ones in another order come in that order."""
  decoder = MaskedDecoder(5, width=8, depth=1, heads=2, hidden=8)
  rng = np.random.default_rng(0)
  order = np.stack([rng.permutation(12) for _ in range(2)])
  tokens, visible, masked = rng.normal(size=(2, 4, 6)).astype(np.float32), order[:, :4], order[:, 4:]
  params = random_params(decoder, *map(jnp.asarray, (tokens, visible, masked)), train=False)
  compiled = jax.jit(functools.partial(decoder.apply, params, train=False))

  def run(*arrays: np.ndarray) -> np.ndarray:
    return np.asarray(compiled(*map(jnp.asarray, arrays)))

  out = run(tokens, visible, masked)
  assert out.shape == (2, 8, 5)
  np.testing.assert_allclose(run(tokens[:, ::-1], visible[:, ::-1], masked), out, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(run(tokens, visible, masked[:, ::-1]), out[:, ::-1], rtol=1e-4, atol=1e-5)
  assert np.abs(out[:, 0] - out[:, 1]).max() > 1e-3


def test_distances_by_hand():
  """Equal grids: q - k, from 0 on. Twice as many queries: each key stands for two of their steps."""
  assert distances(3, 3).tolist() == [[2, 1, 0], [3, 2, 1], [4, 3, 2]]
  assert distances(4, 2).tolist() == [[2, 0], [3, 1], [4, 2], [5, 3]]
  assert distances(1, 1).tolist() == [[0]]


def test_relative_positions_are_sums_over_the_axes():
  """Products of the features are q . (R_t + R_h + R_w) of the distances, and nothing for class tokens."""
  q_grid, k_grid, module = (2, 4, 3), (2, 2, 3), RelativePositions()
  q, k = normal(1, 1, 25, 2, 4), normal(2, 1, 13, 2, 4)
  params = random_params(module, q, k, q_grid=q_grid, k_grid=k_grid)["params"]
  run = jax.jit(functools.partial(module.apply, {"params": params}, q_grid=q_grid, k_grid=k_grid))
  of_q, of_k = run(q, k)
  found = np.einsum("bnae,bmae->banm", of_q, of_k)
  assert not found[:, :, 0].any()
  assert not found[:, :, :, 0].any()
  assert params["rel_pos_h"].shape == params["rel_pos_w"].shape == (7, 4)
  tables = {axis: np.asarray(params[f"rel_pos_{axis}"]) for axis in "thw"}
  # Three columns have 5 distances; the table has those of four rows, 7, and is interpolated.
  tables["w"] = np.stack([np.interp((np.arange(5) + 0.5) * 7 / 5 - 0.5, np.arange(7), c) for c in tables["w"].T], -1)
  for i, (t, h, w) in enumerate(np.ndindex(*q_grid), start=1):
    for j, (u, g, x) in enumerate(np.ndindex(*k_grid), start=1):
      row = tables["t"][t - u + 1] + tables["h"][h - 2 * g + 2] + tables["w"][w - x + 2]
      np.testing.assert_allclose(found[0, :, i, j], np.asarray(q)[0, i] @ row, rtol=1e-3, atol=1e-4)


def test_pooled_attention_has_the_parts_of_its_version():
  """The grid is that of the pooled queries; heads share kernels; the first version pools strided queries only."""
  x, layer = jax.ShapeDtypeStruct((1, 31, 4), jnp.float32), functools.partial(PooledAttention, 2, 8, (2, 3, 5))
  out, variables = jax.eval_shape(layer((1, 2, 2), (1, 3, 3)).init_with_output, KEY, x)
  assert out.shape == (1, 1 + 2 * 2 * 3, 8)
  assert variables["params"]["pool_k"]["kernel"].shape == (3, 3, 3, 1, 4)
  assert "positions" in variables["params"]
  still, strided = (jax.eval_shape(layer(s, second=False).init, KEY, x)["params"] for s in ((1, 1, 1), (1, 2, 2)))
  assert set(still) == {"qkv", "out", "pool_k", "norm_k", "pool_v", "norm_v"}
  assert set(strided) == set(still) | {"pool_q", "norm_q"}
  with pytest.raises(ValueError, match="3 heads do not divide 8 features"):
    jax.eval_shape(PooledAttention(3, 8, (2, 3, 5)).init, KEY, x)
