"""Where a token is: learned tables and their resizing, sinusoids, rotations."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peers import peer

from vu_jax.layers.attention.positions import (
  LearnedPositions,
  grid_positions,
  interpolate_positions,
  rotary,
  sin_cos,
  sin_cos_flat,
)

KEY = jax.random.key(0)
GRID = (2, 3, 2)
TURN = jax.jit(rotary)


def normal(seed: int, *shape: int) -> jax.Array:
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize(
  ("form", "shapes"),
  [
    ("joint", {"joint": (2, 3, 2, 4)}),
    ("separable", {"space": (3, 2, 4), "time": (2, 4)}),
    ("space", {"space": (3, 2, 4)}),
    ("time", {"time": (2, 4)}),
  ],
)
def test_learned_positions_are_the_tables_of_their_form(form: str, shapes: dict[str, tuple[int, int]]):
  """Each token gets the entries of its own time and place."""
  model, tokens = LearnedPositions(form), normal(1, 2, *GRID, 4)
  out, variables = model.init_with_output(KEY, tokens)
  params = variables["params"]
  assert jax.tree.map(jnp.shape, params) == shapes
  for t, h, w in np.ndindex(*GRID):
    place = {"joint": (t, h, w), "space": (h, w), "time": t}
    expected = tokens[:, t, h, w] + sum(table[place[name]] for name, table in params.items())
    np.testing.assert_allclose(out[:, t, h, w], expected, rtol=1e-6, atol=1e-6)


def test_the_gradient_of_a_table_is_the_sum_over_its_tokens():
  """Of the clips and, for each separate table, of the axes that it does not span."""
  tokens, mix = normal(1, 2, *GRID, 4), normal(2, 2, *GRID, 4)
  model = LearnedPositions("separable")
  variables = model.init(KEY, tokens)
  grads = jax.grad(lambda v: (model.apply(v, tokens) * mix).sum())(variables)["params"]
  np.testing.assert_allclose(grads["space"], mix.sum((0, 1)), rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(grads["time"], mix.sum((0, 2, 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["joint", "separable"])
def test_learned_positions_serve_other_grids(form: str):
  """On a longer and larger clip each table is the resized one, and the parameters keep their shapes."""
  model = LearnedPositions(form)
  variables = model.init(KEY, jnp.zeros((1, *GRID, 4)))
  out = model.apply(variables, jnp.zeros((1, 4, 5, 2, 4)))
  p = variables["params"]
  if form == "joint":
    expected = interpolate_positions(p["joint"].reshape(12, 4), GRID, (4, 5, 2)).reshape(4, 5, 2, 4)
  else:
    space = interpolate_positions(p["space"].reshape(6, 4), (3, 2), (5, 2)).reshape(1, 5, 2, 4)
    expected = space + interpolate_positions(p["time"], (2,), (4,)).reshape(4, 1, 1, 4)
  np.testing.assert_allclose(out[0], expected, rtol=1e-5, atol=1e-6)


def test_learned_positions_in_bfloat16():
  """The table stays float32 and the sum is rounded once: 256 + 0.75 + 0.75 is 258 in bfloat16, not 256."""
  model = LearnedPositions("separable", table_init=jax.nn.initializers.constant(0.75), dtype="bfloat16")
  out, variables = model.init_with_output(KEY, jnp.full((1, 1, 1, 1, 2), 256.0, jnp.bfloat16))
  assert out.dtype == jnp.bfloat16
  assert {p.dtype for p in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
  np.testing.assert_array_equal(out.astype(jnp.float32), 258.0)


def test_resizing_by_hand():
  """Twice as many positions lie a quarter to either side of the old ones; the ends keep their values."""
  table = jnp.asarray([[0.0], [4.0], [8.0]])
  assert interpolate_positions(table, (3,), (6,)).ravel().tolist() == [0, 1, 3, 5, 7, 8]
  assert interpolate_positions(table[:2], (2,), (1,)).ravel().tolist() == [2]


@settings(max_examples=20)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_resizing_to_the_same_grid_is_the_identity(grid: list[int]):
  """Bit for bit, on any number of axes."""
  table = normal(1, math.prod(grid), 3)
  np.testing.assert_array_equal(interpolate_positions(table, grid, grid), table)


@settings(max_examples=15)
@given(st.integers(1, 6), st.integers(1, 9))
def test_resizing_keeps_order_and_range(old: int, new: int):
  """Rising positions stay rising, and nothing leaves the range of the table, however far the grid is stretched."""
  table = np.cumsum(np.random.default_rng(old).uniform(0.1, 1, (old, 2)), axis=0).astype(np.float32)
  out = np.asarray(interpolate_positions(jnp.asarray(table), (old,), (new,)))
  assert out.shape == (new, 2)
  assert (np.diff(out, axis=0) >= -1e-5).all()
  assert out.min() >= table.min() - 1e-5
  assert out.max() <= table.max() + 1e-5


def test_axes_are_resized_independently():
  """A table that depends on one axis only still does so after resizing, with the values of that axis alone."""
  time = normal(1, 3, 2)
  table = jnp.repeat(time, 4, axis=0)
  out = interpolate_positions(table, (3, 2, 2), (5, 3, 1)).reshape(5, 3, 2)
  expected = interpolate_positions(time, (3,), (5,))
  np.testing.assert_allclose(out, jnp.broadcast_to(expected[:, None], out.shape), rtol=1e-5, atol=1e-6)


def test_resizing_equals_torch():
  """Trilinear `interpolate` of torch, growing along two axes and shrinking along one."""
  torch = peer("torch")
  table = np.asarray(normal(1, 4 * 6 * 5, 3))
  maps = torch.from_numpy(table.reshape(1, 4, 6, 5, 3).transpose(0, 4, 1, 2, 3).copy())
  theirs = torch.nn.functional.interpolate(maps, (7, 4, 8), mode="trilinear").numpy()
  ours = interpolate_positions(jnp.asarray(table), (4, 6, 5), (7, 4, 8)).reshape(7, 4, 8, 3)
  np.testing.assert_allclose(ours, theirs[0].transpose(1, 2, 3, 0), rtol=1e-4, atol=1e-5)


def test_wrong_tables_are_named():
  """A class token's row left in the table, or a grid with another number of axes, is an error with both numbers."""
  with pytest.raises(ValueError, match=r"13 positions do not fill the grid \(2, 3, 2\)"):
    interpolate_positions(jnp.zeros((13, 4)), GRID, (4, 3, 2))
  with pytest.raises(ValueError, match=r"\(2, 3, 2\) cannot be resized to \(4, 6\)"):
    interpolate_positions(jnp.zeros((12, 4)), GRID, (4, 6))


def test_flat_sinusoids_by_hand():
  """Position n, entry 2 i: sin(n / 10000^(2 i / D)); entry 2 i + 1: the cosine of the same angle."""
  table = sin_cos_flat(1569, 6)
  assert table.dtype == np.float32
  for n in (0, 1, 7, 1568):
    for i in range(3):
      angle = n / 10000 ** (2 * i / 6)
      np.testing.assert_allclose(table[n, 2 * i : 2 * i + 2], [math.sin(angle), math.cos(angle)], atol=1e-7)


def test_sinusoids_of_a_grid_are_those_of_its_axes():
  """With 6 dividing the width, each third is the flat table of one axis: time, height, width."""
  table = sin_cos(3, 4, 5, 12)
  assert table.dtype == np.float32
  for t, h, w in np.ndindex(3, 4, 5):
    expected = np.concatenate([sin_cos_flat(5, 4)[i] for i in (t, h, w)])
    np.testing.assert_array_equal(table[t, h, w], expected)


@settings(max_examples=15)
@given(st.integers(3, 40))
def test_sinusoids_tell_all_positions_apart(pairs: int):
  """Any even width of 6 and more: every token has its own row, all rows are equally long."""
  table = sin_cos(3, 4, 5, 2 * pairs).reshape(60, -1).astype(np.float64)
  distance = np.linalg.norm(table[:, None] - table[None], axis=-1) + 10 * np.eye(60)
  assert distance.min() > 0.1
  np.testing.assert_allclose((table**2).sum(-1), pairs, rtol=1e-5)


@pytest.mark.parametrize("call", [lambda: sin_cos_flat(4, 5), lambda: sin_cos(1, 2, 2, 7)])
def test_odd_widths_are_errors(call):
  """Sines and cosines come in pairs."""
  with pytest.raises(ValueError, match="even number"):
    call()


def test_grid_positions_count_like_flat_tokens():
  """Row n holds the coordinates of flat token n: the last axis runs fastest."""
  positions = grid_positions(*GRID)
  np.testing.assert_array_equal(positions, list(np.ndindex(*GRID)))


def test_rotation_by_hand():
  """One axis, four features: pair (0, 2) turns by the position, pair (1, 3) by a hundredth of it."""
  x = jnp.asarray([1.0, 1.0, 0.0, 0.0])
  turned = rotary(x, jnp.asarray([0.5]))
  expected = [math.cos(0.5), math.cos(0.005), math.sin(0.5), math.sin(0.005)]
  np.testing.assert_allclose(turned, expected, rtol=1e-6)


@settings(max_examples=20)
@given(
  st.lists(st.integers(-20, 20), min_size=3, max_size=3),
  st.lists(st.integers(-20, 20), min_size=3, max_size=3),
  st.lists(st.integers(-50, 50), min_size=3, max_size=3),
  st.sampled_from([2, 8, 10]),
)
def test_rotated_products_depend_on_offsets_only(here: list[int], there: list[int], shift: list[int], width: int):
  """Moving query and key together changes nothing, in any direction of time and space."""
  q, k = normal(1, width), normal(2, width)
  here, there, shift = (np.asarray(v) for v in (here, there, shift))
  product = np.dot(TURN(q, here), TURN(k, there))
  moved = np.dot(TURN(q, here + shift), TURN(k, there + shift))
  np.testing.assert_allclose(product, moved, rtol=1e-3, atol=1e-3)
  np.testing.assert_allclose(np.linalg.norm(TURN(q, here)), np.linalg.norm(q), rtol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_rotated_products_see_each_axis(axis: int):
  """An offset along any one axis changes the product, also where 6 does not divide the width."""
  q, offset = normal(1, 16), np.eye(3, dtype=np.int32)[axis]
  assert abs(rotary(q, np.zeros(3, np.int32)) @ rotary(q, offset) - q @ q) > 0.01


def test_rotation_fits_both_layouts_and_masks():
  """Heads before or after tokens, known or traced positions give the same; kept tokens turn as in the whole clip."""
  positions, x = grid_positions(*GRID), normal(1, 2, 3, 12, 8)
  heads_first = rotary(x, positions)
  tokens_first = rotary(x.transpose(0, 2, 1, 3), positions[:, None])
  np.testing.assert_array_equal(heads_first, tokens_first.transpose(0, 2, 1, 3))
  np.testing.assert_allclose(rotary(x, jnp.asarray(positions)), heads_first, rtol=1e-5, atol=1e-5)
  kept = jnp.asarray([3, 7])
  np.testing.assert_allclose(
    rotary(x[:, :, kept], jnp.asarray(positions)[kept]), heads_first[:, :, kept], rtol=1e-5, atol=1e-6
  )


def test_rotation_in_bfloat16_and_its_error():
  """Angles are float32, so far positions are right; only the result is rounded. An odd width is an error."""
  x, far = normal(1, 8), np.asarray([1000])
  rough = rotary(x.astype(jnp.bfloat16), far)
  assert rough.dtype == jnp.bfloat16
  np.testing.assert_allclose(rough.astype(jnp.float32), rotary(x, far), atol=0.03)
  with pytest.raises(ValueError, match="heads of 7 features"):
    rotary(normal(1, 7), far)
