"""Pooling: every lowering computes the same values and gradients, and they are the ones that the docstrings promise."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from peers import peer

from vu_jax.layers.convolution.pool import avg_pool, ceil_padding, max_pool

LOWERINGS = ("xla", "separable", "tiles")


def ties(shape, seed=0):
  """Small integers: most windows have several maxima, and sums are exact in any order."""
  return jnp.asarray(np.random.default_rng(seed).integers(0, 3, shape), jnp.float32)


def cotangent(shape, seed=0):
  """Small integers of both signs."""
  return np.random.default_rng(seed + 1).integers(-9, 10, shape).astype(np.float32)


def value_and_pullback(pool, x, seed=0):
  """y, and the gradient for a `cotangent` of that seed."""

  def both(x):
    y, pullback = jax.vjp(pool, x)
    return y, pullback(jnp.asarray(cotangent(y.shape, seed), y.dtype))[0]

  return jax.jit(both)(x)


def assert_same(a, b):
  for one, other in zip(a, b, strict=True):
    np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


@st.composite
def pools(draw, tiled=False):
  """(shape, window, strides, padding) whose windows fit and never lie wholly in padding."""
  n = draw(st.integers(1, 3))
  sizes, windows, strides, pads = [], [], [], []
  for _ in range(n):
    k = draw(st.integers(1, 4))
    low, high = (0, 0) if tiled else (draw(st.integers(0, k - 1)), draw(st.integers(0, k - 1)))
    s = k if tiled else draw(st.integers(1, 6))
    size = draw(st.integers(max(1, k - low - high), 9))
    assume((size + low + high - k) // s * s < size + low)
    for values, v in ((sizes, size), (windows, k), (strides, s), (pads, (low, high))):
      values.append(v)
  batch = draw(st.sampled_from([(), (1,), (2,)]))
  padding = draw(st.sampled_from([pads, "SAME", "VALID"])) if not tiled else "VALID"
  assume(padding == "SAME" or all(size >= k for size, k in zip(sizes, windows, strict=True)) or padding is pads)
  return (*batch, *sizes, 2), tuple(windows), tuple(strides), padding


@settings(max_examples=18)
@given(pools(), st.integers(0, 99))
def test_separable_maximum_equals_xla(case, seed):
  """Values and gradients are equal to XLA's bit for bit, ties included."""
  shape, window, strides, padding = case
  x = ties(shape, seed)
  expected = value_and_pullback(lambda x: max_pool(x, window, strides, padding, "xla"), x, seed)
  assert_same(value_and_pullback(lambda x: max_pool(x, window, strides, padding, "separable"), x, seed), expected)


@settings(max_examples=10)
@given(pools(tiled=True), st.integers(0, 99))
def test_tiles_equal_xla(case, seed):
  """Where windows tile the input, with or without positions left over, so does the lowering made for it."""
  shape, window, _, _ = case
  x = ties(shape, seed)
  expected = value_and_pullback(lambda x: max_pool(x, window, lowering="xla"), x, seed)
  assert_same(value_and_pullback(lambda x: max_pool(x, window, lowering="tiles"), x, seed), expected)
  (y, dx), (y_xla, dx_xla) = (
    value_and_pullback(lambda x, low=low: avg_pool(x, window, lowering=low), x, seed) for low in ("tiles", "xla")
  )
  np.testing.assert_allclose(y, y_xla, rtol=1e-6)
  np.testing.assert_allclose(dx, dx_xla, rtol=1e-6)


def mean_by_hand(x, window, strides, pads, count_padding):
  """Window by window in float64."""
  x, n = np.asarray(x, np.float64), len(window)
  lead, size = x.shape[: -n - 1], x.shape[-n - 1 : -1]
  outputs = [(m + sum(p) - k) // s + 1 for m, k, s, p in zip(size, window, strides, pads, strict=True)]
  y = np.zeros((*lead, *outputs, x.shape[-1]))
  for o in itertools.product(*map(range, outputs)):
    start = [i * s - p[0] for i, s, p in zip(o, strides, pads, strict=True)]
    inside = [slice(max(a, 0), min(a + k, m)) for a, k, m in zip(start, window, size, strict=True)]
    part = x[(..., *inside, slice(None))]
    count = math.prod(window) if count_padding else math.prod(part.shape[-n - 1 : -1])
    y[(..., *o, slice(None))] = part.sum(axis=tuple(range(-n - 1, -1))) / count
  return y


@settings(max_examples=12)
@given(pools(), st.booleans(), st.integers(0, 99))
def test_average_equals_the_mean_by_hand(case, count_padding, seed):
  """With padding counted or not, in both lowerings; their gradients agree."""
  shape, window, strides, padding = case
  x = jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)
  found = [
    value_and_pullback(lambda x, low=low: avg_pool(x, window, strides, padding, count_padding, low), x)
    for low in ("xla", "separable")
  ]
  np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-5)
  if not isinstance(padding, str):
    expected = mean_by_hand(x, window, strides, padding, count_padding)
    for y, _ in found:
      np.testing.assert_allclose(y, expected, atol=1e-6)


@pytest.mark.parametrize("lowering", ["xla", "separable", None])
def test_the_first_of_equals_takes_the_gradient(lowering):
  """By hand: a map of ones under 2x2 windows of stride 1 sends every gradient to the window's upper left corner."""
  x = jnp.ones((1, 3, 3, 1))
  dy = jnp.asarray([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
  dx = jax.vjp(lambda x: max_pool(x, (2, 2), (1, 1), lowering=lowering), x)[1](dy)[0]
  np.testing.assert_array_equal(dx[0, :, :, 0], [[1, 2, 0], [3, 4, 0], [0, 0, 0]])


@pytest.mark.parametrize("lowering", ["separable", "tiles"])
def test_time_comes_before_height_before_width(lowering):
  """By hand: of equal maxima, the earliest frame wins, though it lies lower and further right in its frame."""
  x = jnp.zeros((2, 2, 2, 1)).at[0, 1, 1].set(5).at[1, 0, 0].set(5)
  dx = jax.grad(lambda x: max_pool(x, (2, 2, 2), lowering=lowering).sum())(x)
  assert dx[0, 1, 1, 0] == 1
  assert dx.sum() == 1


def test_a_position_gets_the_gradients_of_all_windows_it_wins():
  """By hand: one peak under three overlapping windows."""
  x = jnp.asarray([0.0, 0.0, 7.0, 0.0, 0.0])[:, None]
  dx = jax.vjp(lambda x: max_pool(x, (3,), (1,)), x)[1](jnp.asarray([1.0, 10.0, 100.0])[:, None])[0]
  np.testing.assert_array_equal(dx[:, 0], [0, 0, 111, 0, 0])


@pytest.mark.parametrize("lowering", LOWERINGS)
def test_nan_propagates(lowering):
  """The windows that hold a NaN are NaN, in maxima, in maxima under differentiation and in means; no others are."""
  x = ties((4, 6, 1)).at[1, 2].set(jnp.nan)
  expected = np.zeros((2, 3), bool)
  expected[0, 1] = True
  for pool in (max_pool, avg_pool):
    y, _ = value_and_pullback(lambda x, pool=pool: pool(x, (2, 2), lowering=lowering), x)
    np.testing.assert_array_equal(np.isnan(y[..., 0]), expected)
    np.testing.assert_array_equal(np.isnan(pool(x, (2, 2), lowering=lowering)[..., 0]), expected)


def test_minus_infinity_in_the_input_wins_over_padding():
  """A masked map at the border keeps its gradient; XLA's own would give it to the padding and lose it."""
  x = jnp.full((3, 3, 1), -jnp.inf)
  dx = jax.grad(lambda x: max_pool(x, (3, 3), (2, 2), "SAME", "separable").sum())(x)
  np.testing.assert_array_equal(dx[..., 0], [[1, 1, 0], [1, 1, 0], [0, 0, 0]])


def test_windows_of_more_than_255_positions():
  """Their positions need more than one byte, and still only one wins."""
  x = ties((18, 17, 2))
  assert_same(
    *(value_and_pullback(lambda x, low=low: max_pool(x, (17, 16), (1, 1), "VALID", low), x) for low in LOWERINGS[:2])
  )


@pytest.mark.parametrize(("strides", "lowering"), [((1, 1, 1), "xla"), ((1, 1, 1), "separable"), ((3, 3, 3), "tiles")])
def test_bfloat16(strides, lowering):
  """Maxima are exact; their gradients and the means are summed in float32 and rounded once."""
  x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 6, 6, 2)), jnp.bfloat16)
  wide = x.astype(jnp.float32)
  y, dx = value_and_pullback(lambda x: max_pool(x, (3, 3, 3), strides, lowering=lowering), x)
  y32, dx32 = value_and_pullback(lambda x: max_pool(x, (3, 3, 3), strides, lowering="xla"), wide)
  assert y.dtype == dx.dtype == jnp.bfloat16
  assert_same((y.astype(jnp.float32),), (y32,))
  if lowering != "xla":  # its own gradient adds in bfloat16
    assert_same((dx,), (dx32.astype(jnp.bfloat16),))
  mean, mean32 = (avg_pool(v, (3, 3, 3), strides, lowering=lowering) for v in (x, wide))
  assert mean.dtype == jnp.bfloat16
  np.testing.assert_allclose(mean.astype(jnp.float32), mean32, rtol=2**-8, atol=1e-6)


def test_the_gradient_on_the_cpu_is_not_xla_s():
  """The table takes a lowering without select-and-scatter for overlapping and for tiling windows."""
  x = ties((4, 4, 1))
  for strides in ((1, 1), (2, 2)):
    assert "select_and_scatter" not in str(
      jax.make_jaxpr(jax.grad(lambda x, s=strides: max_pool(x, (2, 2), s).sum()))(x)
    )


@pytest.mark.parametrize(("strides", "lowering"), [((1, 2), "separable"), ((2, 2), "tiles")])
def test_works_inside_transformations(strides, lowering):
  """vmap equals a batch axis; checkpoint, inside jit, and a second derivative equal XLA's."""
  x = ties((2, 5, 6, 3), seed=4)

  def loss(x, lowering):
    return (max_pool(x, (2, 2), strides, lowering=lowering) ** 3).sum()

  assert_same((jax.vmap(jax.grad(loss), (0, None))(x, lowering),), (jax.grad(loss)(x, "xla"),))

  def twice(x, lowering):
    return jax.checkpoint(lambda x: loss(jnp.sin(x), lowering))(x)

  np.testing.assert_allclose(
    jax.jit(jax.grad(twice), static_argnums=1)(x, lowering), jax.grad(twice)(x, "xla"), rtol=1e-5
  )

  def curvature(lowering):
    return jax.grad(lambda x: (jax.grad(loss)(x, lowering) * x).sum())(x)

  np.testing.assert_allclose(curvature(lowering), curvature("xla"), rtol=1e-6)


def test_strides_default_to_the_window():
  """As in torch."""
  assert_same((max_pool(ties((4, 6, 1)), (2, 3)),), (max_pool(ties((4, 6, 1)), (2, 3), (2, 3)),))


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (dict(window=(5, 2)), r"spans 5 .* only 4"),
    (dict(window=(2, 2), padding=(2, 0)), r"padding \(2, 2\): a window of 2 lies wholly in it"),
    (dict(window=(2, 2), strides=(1, 1), padding=((0, 2), (0, 0))), r"padding \(0, 2\): a window of 2"),
    (dict(window=(2, 2), strides=(1, 1, 1)), r"strides \(1, 1, 1\) has 3 numbers for 2 axes"),
    (dict(window=(2, 2, 2)), r"window \(2, 2, 2\).* 3 axes"),
    (dict(window=()), r"1 to 3 numbers"),
    (dict(window=(2, 2), lowering="fast"), r'"fast": must be one of xla, separable, tiles'),
    (dict(window=(2, 2), strides=(1, 1), lowering="tiles"), r"\(2, 2\) must equal strides \(1, 1\)"),
    (dict(window=(2, 2), padding=(1, 0), lowering="tiles"), r"padded \(\(1, 1\), \(0, 0\)\)"),
  ],
)
@pytest.mark.parametrize("pool", [max_pool, avg_pool])
def test_wrong_arguments(pool, arguments, message):
  """One line that names the numbers."""
  with pytest.raises(ValueError, match=message):
    pool(jnp.zeros((4, 4, 1)), **arguments)


def test_ceil_padding_by_hand():
  """A position left over gets a window of its own, unless that window would start behind the input."""
  assert ceil_padding((7,), (2,)) == ((0, 1),)
  assert ceil_padding((8, 7), (3, 3), (2, 2)) == ((0, 1), (0, 0))
  assert ceil_padding((4,), (2,), (3,)) == ((0, 1),)
  assert ceil_padding((3,), (2,), (3,), (1,)) == ((1, 1),)
  assert ceil_padding((5,), (1,), (3,)) == ((0, 0),)


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize(
  ("size", "window", "strides", "padding"),
  [
    ((3, 4, 5), (3, 3, 3), (1, 1, 1), (1, 1, 1)),
    ((5, 6, 7), (2, 2, 2), (2, 2, 2), (0, 0, 0)),
    ((4, 8, 9), (2, 3, 3), (3, 2, 4), (1, 0, 1)),
  ],
)
def test_equals_torch(size, window, strides, padding, ceil_mode):
  """Values and gradients of maxima, ties included, and of means with padding counted or not, also in ceil mode."""
  torch = peer("torch")
  x = ties((2, *size, 3))
  pads = ceil_padding(size, window, strides, padding) if ceil_mode else padding
  peers = [
    (lambda x: max_pool(x, window, strides, pads), torch.nn.MaxPool3d(window, strides, padding, ceil_mode=ceil_mode))
  ]
  for count in (True, False):
    if not (count and ceil_mode):
      theirs = torch.nn.AvgPool3d(window, strides, padding, ceil_mode, count_include_pad=count)
      peers.append((lambda x, count=count: avg_pool(x, window, strides, pads, count), theirs))
  for ours, theirs in peers:
    there = torch.from_numpy(np.moveaxis(np.array(x), -1, 1).copy()).requires_grad_(True)
    expected = theirs(there)
    y, dx = value_and_pullback(ours, x)
    np.testing.assert_allclose(y, np.moveaxis(expected.detach().numpy(), 1, -1), rtol=1e-6)
    expected.backward(torch.from_numpy(np.moveaxis(cotangent(y.shape), -1, 1).copy()))
    np.testing.assert_allclose(dx, np.moveaxis(there.grad.numpy(), 1, -1), atol=1e-5)
