"""Attention: equal to its equation, whatever the lowering."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from peers import peer

from vu_jax.layers.attention import attention, attention_chunked, attention_lowerings
from vu_jax.layers.attention.attention import attend

CPU_LOWERINGS = ("plain", "chunked")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
  """Chunks of a few queries, so that small arrays have several."""
  monkeypatch.setattr(attention_chunked, "CHUNK_SCORES", 24)
  monkeypatch.setattr(attention_chunked, "CAUSAL_SPANS", 2)


def draw(seed: int, *shape: int) -> np.ndarray:
  return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def qkv(rows: int, keys: int, batch: tuple[int, ...] = (2,), heads: int = 2, width: int = 4) -> tuple[np.ndarray, ...]:
  return (draw(0, *batch, rows, heads, width), *(draw(i, *batch, keys, heads, width) for i in (1, 2)))


def run(variants, q, k, v, dout):
  """(result, dq, dk, dv, dbias) of each variant, the arguments of `attend` by keyword, from one program."""
  arrays = {name: {k: x for k, x in o.items() if k in ("bias", "mask")} for name, o in variants.items()}

  def one(options, arrays, *args):
    value, pull = jax.vjp(lambda q, k, v, bias: attend(q, k, v, **(options | arrays | {"bias": bias})), *args)
    return value, *pull(jnp.asarray(dout, value.dtype))

  @jax.jit
  def together(arrays, *qkv):
    return {name: one(o, arrays[name], *qkv, arrays[name].get("bias")) for name, o in variants.items()}

  return jax.device_get(together(arrays, q, k, v))


def reference(q, k, v, dout, bias=0.0, mask=True, causal_block=0, scale=None, factors=1.0):
  """Equation 1 and its derivatives in float64: (result, dq, dk, dv, dbias)."""
  q, k, v, dout = (np.moveaxis(np.asarray(x, np.float64), -3, -2) for x in (q, k, v, dout))
  scale = q.shape[-1] ** -0.5 if scale is None else scale
  s = q @ k.swapaxes(-1, -2) * scale + bias
  see = np.broadcast_to(mask, s.shape) & (s > -np.inf)
  if causal_block:
    rows, keys = np.indices(s.shape[-2:]) // causal_block
    see = see & (keys <= rows)
  p = np.where(see, np.exp(s), 0)
  p = p / np.maximum(p.sum(-1, keepdims=True), 1e-300)
  out = (p * factors) @ v
  dp = dout @ v.swapaxes(-1, -2) * factors
  ds = p * (dp - (p * dp).sum(-1, keepdims=True))
  dq, dk, dv = ds @ k * scale, ds.swapaxes(-1, -2) @ q * scale, (p * factors).swapaxes(-1, -2) @ dout
  # A broadcast bias gets the sum over what it was broadcast to.
  shape = np.shape(bias)
  shape = (1,) * (ds.ndim - len(shape)) + shape
  dbias = ds.sum(tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True).reshape(np.shape(bias))
  return *(np.moveaxis(x, -2, -3) for x in (out, dq, dk, dv)), dbias


def close(got, expected, atol: float = 5e-6) -> None:
  """All arrays of `got` are near; an argument that was left out has no gradient."""
  for ours, exact in zip(got, expected, strict=True):
    if ours is not None:
      np.testing.assert_allclose(np.asarray(ours, np.float64), exact, atol=atol)


@pytest.mark.parametrize(
  ("rows", "keys", "batch", "options"),
  [
    (5, 9, (), {"scale": 0.7}),
    (1, 6, (2, 1), {"bias": draw(5, 2, 1, 6)}),
    (9, 5, (2, 3), {"bias": draw(5, 2, 1, 1, 9, 5), "mask": draw(6, 3, 1, 1, 5) > 0}),
    (9, 5, (2, 3), {"bias": draw(5, 5), "mask": draw(6, 9, 1) > 0}),
    (11, 11, (1,), {"causal": True}),
    (11, 11, (2,), {"causal": True, "causal_block": 3, "mask": draw(6, 2, 1, 11, 11) > -0.5}),
  ],
)
def test_equals_the_equation(rows, keys, batch, options) -> None:
  """Masks, biases, causality, scale and cross shapes, and all gradients, match the equation in float64."""
  q, k, v = qkv(rows, keys, batch)
  dout = draw(7, *q.shape)
  expected = dict(options)
  if expected.pop("causal", False):
    expected.setdefault("causal_block", 1)
  exact = reference(q, k, v, dout, **expected)
  for got in run({name: {**options, "lowering": name} for name in CPU_LOWERINGS}, q, k, v, dout).values():
    close(got, exact)


@settings(max_examples=6)
@given(data=st.data())
def test_chunked_equals_the_equation(data) -> None:
  """For any counts, masks, biases and blocks, values and all gradients of the chunked lowering are right."""
  rows, keys = data.draw(st.tuples(st.sampled_from([1, 5, 13]), st.sampled_from([1, 6, 13])))
  block = data.draw(st.integers(0, 4))
  rows = keys if block else rows
  q, k, v = qkv(rows, keys, (2,), heads=data.draw(st.sampled_from([1, 2, 3])))
  shape = [data.draw(st.sampled_from([1, n])) for n in (2, q.shape[2], rows, keys)]
  arrays = {"bias": draw(3, *shape)} | data.draw(st.sampled_from([{}, {"mask": draw(4, *shape) > 0}]))
  causal = {"causal": True, "causal_block": block} if block else {}
  dout = draw(7, *q.shape)
  got = run({"chunked": {**arrays, **causal, "lowering": "chunked"}}, q, k, v, dout)["chunked"]
  close(got, reference(q, k, v, dout, **arrays, causal_block=block))


def test_causal_does_not_see_the_future() -> None:
  """The gradient of a query's output with respect to later keys and values is exactly zero, not that of its own."""
  q, k, v = qkv(8, 8, ())
  fourth = np.zeros_like(q)
  fourth[4] = 1
  last = {1: 5, 3: 6}
  cases = {f"{name} {n}": {"causal": True, "causal_block": n, "lowering": name} for name in CPU_LOWERINGS for n in last}
  for name, (_, _, *gradients, _) in run(cases, q, k, v, fourth).items():
    seen = last[cases[name]["causal_block"]]
    for gradient in gradients:
      size = np.abs(gradient).sum((1, 2))
      assert (size[:seen] > 0).all()
      assert (size[seen:] == 0).all()


def test_row_that_sees_nothing() -> None:
  """Hidden by mask or bias: its output is zero, all gradients are finite, and its query's is zero."""
  q, k, v = qkv(6, 5, ())
  see = np.ones((6, 5), bool)
  see[2] = False
  hidden = {"mask": {"mask": see}, "bias": {"bias": np.where(see, 0.0, -np.inf).astype("float32")}}
  variants = {f"{how} {name}": {**hidden[how], "lowering": name} for how in hidden for name in CPU_LOWERINGS}
  for out, dq, dk, dv, _ in run(variants, q, k, v, np.ones_like(q)).values():
    assert (out[2] == 0).all()
    assert (out[3] != 0).all()
    assert all(np.isfinite(g).all() for g in (dq, dk, dv))
    assert (dq[2] == 0).all()
    np.testing.assert_allclose(dv.sum((0, 2)), 5 * 4 * np.ones(2), rtol=1e-5)


@pytest.mark.parametrize("lowering", CPU_LOWERINGS)
def test_dropout(lowering) -> None:
  """Kept weights are divided by what is kept, the mean stays, keys decide, and gradients use the same draw."""
  tokens = 64
  q, k, v = draw(0, tokens, 2, tokens) / 8, draw(1, tokens, 2, tokens) / 8, draw(2, tokens, 2, tokens)
  # With the identity as values the output is the matrix of weights.
  eye = np.broadcast_to(np.eye(tokens, dtype="float32")[:, None], q.shape)

  @jax.jit
  def f(q, k, v, key):
    def g(q, k, v):
      return attend(q, k, v, dropout=0.25, dropout_key=key, lowering=lowering)

    out, pull = jax.vjp(g, q, k, v)
    return out, *pull(v)

  weights = reference(q, k, eye, v)[0]
  dropped, other = (np.asarray(f(q, k, eye, jax.random.key(seed))[0]) for seed in (0, 1))
  kept = dropped != 0
  np.testing.assert_allclose(dropped[kept], weights[kept] / 0.75, rtol=1e-5)
  assert abs(kept.mean() - 0.75) < 0.02
  assert abs(dropped.sum(-1).mean() - 1) < 0.02
  assert (f(q, k, eye, jax.random.key(0))[0] == dropped).all()
  assert (other != dropped).any()
  factors = kept.swapaxes(0, 1) / 0.75
  close(f(q, k, v, jax.random.key(0)), reference(q, k, v, v, factors=factors)[:4], atol=1e-4)


def test_bfloat16_is_close() -> None:
  """With bfloat16 inputs result and gradients are bfloat16 and within its rounding of the equation."""
  q, k, v = qkv(9, 9)
  dout = np.ones_like(q)
  half = (jnp.asarray(x, "bfloat16") for x in (q, k, v))
  exact = reference(q, k, v, dout)
  for got in run({name: {"lowering": name} for name in CPU_LOWERINGS}, *half, dout).values():
    assert all(x.dtype == jnp.bfloat16 for x in got[:4])
    close(got[:1], exact[:1], atol=0.03)
    close(got[1:4], exact[1:4], atol=0.06)


def test_under_vmap() -> None:
  """vmap over clips is right for the gradients of the chunked lowering."""
  q, k, v = qkv(9, 9)

  def loss(q, k, v):
    return jnp.sum(attend(q, k, v, lowering="chunked") ** 2)

  out = reference(q, k, v, np.zeros_like(q))[0]
  close(jax.jit(jax.vmap(jax.grad(loss, (0, 1, 2))))(q, k, v), reference(q, k, v, 2 * out)[1:4], atol=1e-5)


def test_chunked_memory_grows_with_tokens(monkeypatch) -> None:
  """The compiled gradient for 4,096 tokens needs far less than one 64 MiB matrix of scores."""
  monkeypatch.setattr(attention_chunked, "CHUNK_SCORES", 2**18)
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


def test_flash_passes_on_what_cudnn_takes(monkeypatch) -> None:
  """What is handed to cuDNN means the same: jax's own implementation in its place gives the equation."""
  q, k, v = qkv(4, 4)
  bias, dout = {"bias": draw(4, 2, 1, 4)}, draw(7, *q.shape)
  masks = {"mask": {"mask": draw(3, 1, 4) > 0}, "none": {}}
  blocks = {f"block {n}": {"causal": True, "causal_block": n} for n in (1, 2)}
  theirs = jax.nn.dot_product_attention

  def instead(*args, implementation, **kwargs):
    assert implementation == "cudnn"
    assert all(x is None or x.shape[2:] == (4, 4) for x in args[3:])
    return theirs(*args, implementation="xla", **kwargs)

  monkeypatch.setattr(jax.nn, "dot_product_attention", instead)
  monkeypatch.setattr(attention, "flash_refuses", lambda *_: None)
  got = run({name: {**bias, **o, "lowering": "flash"} for name, o in (masks | blocks).items()}, q, k, v, dout)
  for name, options in masks.items():
    close(got[name], reference(q, k, v, dout, **bias, **options))
  for name, options in blocks.items():
    close(got[name], reference(q, k, v, dout, **bias, causal_block=options["causal_block"]))


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"causal": True}, "as many queries as keys, not 4 and 6"),
    ({"dropout": 0.1}, "dropout 0.1 needs a dropout_key"),
    ({"dropout": 1.0}, "dropout 1.0: must be at least 0 and below 1"),
    ({"bias": jnp.zeros((4, 5))}, r"bias of shape \(4, 5\) does not broadcast .* \(2, 2, 4, 6\)"),
    ({"mask": jnp.zeros((3, 2, 2, 4, 6), bool)}, r"mask of shape \(3, 2, 2, 4, 6\) does not broadcast"),
    ({"lowering": "flash"}, '"flash" needs a GPU, not cpu'),
  ],
)
def test_wrong_arguments(options, message) -> None:
  """One line names the numbers."""
  with pytest.raises(ValueError, match=message) as error:
    attend(*map(jnp.asarray, qkv(4, 6)), **options)
  assert "\n" not in str(error.value)


def test_equals_torch() -> None:
  """torch's scaled_dot_product_attention with a mask, and with its causality, gives the same."""
  torch = peer("torch")
  q, k, v = qkv(9, 9)
  mask = draw(4, 2, 1, 9, 9) > -1
  peers = [torch.tensor(x).transpose(1, 2) for x in (q, k, v)]
  kinds = {"mask": {"mask": jnp.asarray(mask)}, "causal": {"causal": True}}
  theirs = {"mask": {"attn_mask": torch.tensor(mask)}, "causal": {"is_causal": True}}

  @jax.jit
  def ours(q, k, v):
    return {kind: [attend(q, k, v, lowering=n, **options) for n in CPU_LOWERINGS] for kind, options in kinds.items()}

  for kind, results in ours(q, k, v).items():
    out = torch.nn.functional.scaled_dot_product_attention(*peers, **theirs[kind]).transpose(1, 2).numpy()
    for result in results:
      np.testing.assert_allclose(result, out, atol=2e-6)
