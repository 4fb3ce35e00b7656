"""Attention: equal to its equation, whatever the lowering."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from vu_jax.layers import attention, attention_lowerings
from vu_jax.layers.attention import attend

CPU_LOWERINGS = ("plain", "chunked")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
  """Chunks of a few queries, so that small arrays have several."""
  monkeypatch.setattr(attention_lowerings, "CHUNK_SCORES", 24)
  monkeypatch.setattr(attention_lowerings, "CAUSAL_SPANS", 2)


def draw(seed: int, *shape: int) -> jax.Array:
  return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def qkv(rows: int, keys: int, batch: tuple[int, ...] = (2,), heads: int = 2, width: int = 4) -> tuple[jax.Array, ...]:
  return (draw(0, *batch, rows, heads, width), *(draw(i, *batch, keys, heads, width) for i in (1, 2)))


def reference(q, k, v, bias=0.0, mask=True, causal_block=0, scale=None):
  """Equation 1 in float64, one query at a time."""
  q, k, v = (np.moveaxis(np.asarray(x, np.float64), -3, -2) for x in (q, k, v))
  full = (*q.shape[:-1], k.shape[-2])
  bias, mask = np.broadcast_to(np.asarray(bias, np.float64), full), np.broadcast_to(mask, full)
  out = np.zeros_like(q)
  for where in np.ndindex(q.shape[:-1]):
    see = np.array(mask[where])
    if causal_block:
      see &= np.arange(k.shape[-2]) // causal_block <= where[-1] // causal_block
    if see.any():
      s = k[where[:-1]] @ q[where] * (q.shape[-1] ** -0.5 if scale is None else scale) + bias[where]
      p = np.exp(s[see] - s[see].max())
      out[where] = p @ v[where[:-1]][see] / p.sum()
  return np.moveaxis(out, -2, -3)


@pytest.mark.parametrize("lowering", CPU_LOWERINGS)
@pytest.mark.parametrize(
  ("rows", "keys", "batch", "options"),
  [
    (7, 7, (2,), {}),
    (5, 9, (), {"scale": 0.7}),
    (1, 6, (2, 1), {"bias": draw(5, 2, 1, 6)}),
    (9, 5, (2, 3), {"bias": draw(5, 2, 1, 1, 9, 5), "mask": draw(6, 3, 1, 1, 5) > 0}),
    (9, 5, (2, 3), {"bias": draw(5, 5), "mask": draw(6, 9, 1) > 0}),
    (11, 11, (1,), {"causal": True}),
    (11, 11, (2,), {"causal": True, "causal_block": 3, "mask": draw(6, 2, 1, 11, 11) > -0.5}),
  ],
)
def test_equals_the_equation(lowering, rows, keys, batch, options) -> None:
  """Masks, biases, causality, scale and cross shapes match a float64 loop over queries."""
  q, k, v = qkv(rows, keys, batch)
  expected = dict(options)
  if expected.pop("causal", False):
    expected.setdefault("causal_block", 1)
  got = attend(q, k, v, lowering=lowering, **options)
  np.testing.assert_allclose(got, reference(q, k, v, **expected), atol=2e-6)


@settings(max_examples=10)
@given(data=st.data())
def test_chunked_equals_plain(data) -> None:
  """Values and the gradients of queries, keys, values and bias agree for any counts, masks and biases."""
  rows, keys = data.draw(st.tuples(st.integers(1, 13), st.integers(1, 13)))
  causal = data.draw(st.booleans())
  rows = keys if causal else rows
  q, k, v = qkv(rows, keys, (2,), heads=data.draw(st.sampled_from([1, 2, 3])))
  shape = [data.draw(st.sampled_from([1, n])) for n in (2, q.shape[2], rows, keys)]
  mask = data.draw(st.sampled_from([None, draw(4, *shape) > 0]))
  options = {"mask": mask, "causal": causal, "causal_block": data.draw(st.integers(1, 4))}

  def run(lowering):
    def f(q, k, v, bias):
      return attend(q, k, v, bias=bias, lowering=lowering, **options)

    @jax.jit
    def both(*args):
      out, pull = jax.vjp(f, *args)
      return out, *pull(draw(7, *q.shape))

    return both(q, k, v, draw(3, *shape))

  for ours, plain in zip(run("chunked"), run("plain"), strict=True):
    np.testing.assert_allclose(ours, plain, atol=5e-6)


@pytest.mark.parametrize("lowering", CPU_LOWERINGS)
@pytest.mark.parametrize("block", [1, 3])
def test_causal_does_not_see_the_future(lowering, block) -> None:
  """The gradient of a query's output with respect to later keys and values is exactly zero, not that of its own."""
  q, k, v = qkv(8, 8, ())

  def out_of(k, v):
    return attend(q, k, v, causal=True, causal_block=block, lowering=lowering)[4].sum()

  for gradient in jax.grad(out_of, (0, 1))(k, v):
    size = np.abs(gradient).sum((1, 2))
    last = 5 if block == 1 else 6
    assert (size[:last] > 0).all()
    assert (size[last:] == 0).all()


@pytest.mark.parametrize("lowering", CPU_LOWERINGS)
@pytest.mark.parametrize("hide", ["mask", "bias"])
def test_row_that_sees_nothing(lowering, hide) -> None:
  """Its output is zero, and all gradients are finite and zero for its query."""
  q, k, v = qkv(6, 5, ())
  see = np.ones((6, 5), bool)
  see[2] = False
  hidden = {"mask": jnp.asarray(see)} if hide == "mask" else {"bias": jnp.where(see, 0.0, -jnp.inf)}

  def f(q, k, v):
    return attend(q, k, v, lowering=lowering, **hidden)

  out, pull = jax.vjp(f, q, k, v)
  gradients = pull(jnp.ones_like(out))
  assert (out[2] == 0).all()
  assert (out[3] != 0).all()
  assert all(np.isfinite(g).all() for g in gradients)
  assert (gradients[0][2] == 0).all()
  np.testing.assert_allclose(gradients[2].sum((0, 2)), 5 * 4 * np.ones(2), rtol=1e-5)


@pytest.mark.parametrize("lowering", CPU_LOWERINGS)
def test_dropout(lowering) -> None:
  """Kept weights are divided by what is kept, the mean stays, keys decide, and gradients use the same draw."""
  tokens = 64
  q, k = draw(0, tokens, 2, tokens) / 8, draw(1, tokens, 2, tokens) / 8
  # With the identity as values the output is the matrix of weights.
  eye = jnp.broadcast_to(jnp.eye(tokens)[:, None], q.shape)

  def f(q, k, v, key):
    return attend(q, k, v, dropout=0.25, dropout_key=jax.random.key(key), lowering=lowering)

  weights, dropped = attend(q, k, eye), f(q, k, eye, 0)
  kept = dropped != 0
  np.testing.assert_allclose(dropped[kept], weights[kept] / 0.75, rtol=1e-5)
  assert abs(kept.mean() - 0.75) < 0.02
  assert abs(dropped.sum(-1).mean() - 1) < 0.02
  assert (f(q, k, eye, 0) == dropped).all()
  assert (f(q, k, eye, 1) != dropped).any()

  v = draw(2, *q.shape)

  def again(q, k, v):
    p = jax.nn.softmax(jnp.einsum("nad,mad->nam", q, k) / tokens**0.5)
    return jnp.einsum("nam,mad->nad", p * kept / 0.75, v)

  _, ours = jax.vjp(lambda *x: f(*x, 0), q, k, v)
  _, theirs = jax.vjp(again, q, k, v)
  for a, b in zip(ours(v), theirs(v), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("lowering", CPU_LOWERINGS)
def test_bfloat16_is_close(lowering) -> None:
  """With bfloat16 inputs the result is bfloat16 and within its rounding of float32, gradients too."""
  q, k, v = qkv(9, 9)

  def run(*x):
    return jax.vjp(lambda *x: attend(*x, lowering=lowering), *x)

  full, pull = run(q, k, v)
  half, pull_half = run(*(jnp.asarray(x, "bfloat16") for x in (q, k, v)))
  assert half.dtype == jnp.bfloat16
  np.testing.assert_allclose(half.astype("float32"), full, atol=0.03)
  for a, b in zip(pull_half(jnp.ones_like(half)), pull(jnp.ones_like(full)), strict=True):
    assert a.dtype == jnp.bfloat16
    np.testing.assert_allclose(a.astype("float32"), b, atol=0.06)


def test_under_vmap() -> None:
  """vmap over clips equals a batch axis, for the chunked lowering and its gradients."""
  q, k, v = qkv(9, 9)

  def loss(q, k, v):
    return jnp.sum(attend(q, k, v, lowering="chunked") ** 2)

  for a, b in zip(jax.vmap(jax.grad(loss, (0, 1, 2)))(q, k, v), jax.grad(loss, (0, 1, 2))(q, k, v), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_chunked_memory_grows_with_tokens(monkeypatch) -> None:
  """The compiled gradient for 4,096 tokens needs far less than one 64 MiB matrix of scores."""
  monkeypatch.setattr(attention_lowerings, "CHUNK_SCORES", 2**18)
  x = jax.ShapeDtypeStruct((4096, 1, 8), jnp.float32)
  peak = {}
  for lowering in CPU_LOWERINGS:
    gradient = jax.jit(jax.grad(lambda q, k, v, name=lowering: attend(q, k, v, lowering=name).sum(), (0, 1, 2)))
    peak[lowering] = gradient.lower(x, x, x).compile().memory_analysis().temp_size_in_bytes
  assert peak["plain"] > 2**26
  assert peak["chunked"] < 2**23


def shapes_for(dtype: str, rows: int = 64, heads: int = 2, width: int = 8) -> tuple:
  q = jnp.zeros((1, rows, heads, width), dtype)
  return attention_lowerings.Inputs(q, q, q, None, None, None), attention_lowerings.Options(1.0, 0, 0.0)


def test_the_table() -> None:
  """Small problems are plain on the CPU, large ones chunked, and cuDNN is taken where it can be."""
  few, options = shapes_for("float32")
  many, _ = shapes_for("float32", 1024)
  half, _ = shapes_for("bfloat16", 65)
  assert attention.choose("cpu", few, options) == "plain"
  assert attention.choose("cpu", many, options) == "chunked"
  assert attention.choose("tpu", many, options) == "plain"
  assert attention.choose("gpu", few, options) == "plain"
  assert attention.choose("gpu", half, options) == "flash"
  assert attention.choose("gpu", half, options._replace(dropout=0.1)) == "plain"
  assert attention.choose("gpu", half, options._replace(block=5)) == "plain"
  assert attention.choose("gpu", half._replace(mask=jnp.ones((1, 1, 1, 65), bool)), options) == "plain"
  assert attention.choose("gpu", shapes_for("bfloat16", width=12)[0], options) == "plain"
  assert attention.choose("gpu", shapes_for("bfloat16", width=136)[0], options) == "plain"


@pytest.mark.parametrize("options", [{"mask": draw(3, 1, 4) > 0}, {"causal_block": 2}, {"causal_block": 1}, {}])
def test_flash_passes_on_what_cudnn_takes(monkeypatch, options) -> None:
  """What is handed to cuDNN means the same: jax's own implementation in its place gives the plain result."""
  q, k, v = qkv(4, 4)
  options = {**options, "causal": "causal_block" in options, "bias": draw(4, 2, 1, 4)}
  ours = jax.nn.dot_product_attention

  def instead(*args, implementation, **kwargs):
    assert implementation == "cudnn"
    assert all(x is None or x.shape[2:] == (4, 4) for x in args[3:])
    return ours(*args, implementation="xla", **kwargs)

  monkeypatch.setattr(jax.nn, "dot_product_attention", instead)
  monkeypatch.setattr(attention, "flash_refuses", lambda *_: None)
  got = attend(q, k, v, lowering="flash", **options)
  np.testing.assert_allclose(got, attend(q, k, v, lowering="plain", **options), atol=2e-6)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"causal": True}, "as many queries as keys, not 4 and 6"),
    ({"dropout": 0.1}, "dropout 0.1 needs a dropout_key"),
    ({"dropout": 1.0}, "dropout 1.0: must be at least 0 and below 1"),
    ({"bias": draw(0, 4, 5)}, r"bias of shape \(4, 5\) does not broadcast .* \(2, 2, 4, 6\)"),
    ({"mask": draw(0, 3, 2, 2, 4, 6) > 0}, r"mask of shape \(3, 2, 2, 4, 6\) does not broadcast"),
    ({"lowering": "flash"}, '"flash" needs a GPU, not cpu'),
  ],
)
def test_wrong_arguments(options, message) -> None:
  """One line names the numbers."""
  with pytest.raises(ValueError, match=message) as error:
    attend(*qkv(4, 6), **options)
  assert "\n" not in str(error.value)


def test_equals_torch() -> None:
  """torch's scaled_dot_product_attention with a mask, and with its causality, gives the same."""
  torch = pytest.importorskip("torch")
  q, k, v = qkv(9, 9)
  mask = draw(4, 2, 1, 9, 9) > -1
  peers = [torch.tensor(np.asarray(x)).transpose(1, 2) for x in (q, k, v)]
  sdpa = torch.nn.functional.scaled_dot_product_attention
  for lowering in CPU_LOWERINGS:
    theirs = sdpa(*peers, attn_mask=torch.tensor(np.asarray(mask))).transpose(1, 2).numpy()
    np.testing.assert_allclose(attend(q, k, v, mask=mask, lowering=lowering), theirs, atol=2e-6)
    theirs = sdpa(*peers, is_causal=True).transpose(1, 2).numpy()
    np.testing.assert_allclose(attend(q, k, v, causal=True, lowering=lowering), theirs, atol=2e-6)
