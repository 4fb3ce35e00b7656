"""Multi-head attention and its forms over grids of space and time."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange
from peers import peer

from vu_jax.layers.attention import attention_chunked
from vu_jax.layers.attention.multi_head import MultiHeadAttention
from vu_jax.layers.attention.positions import grid_positions, rotary
from vu_jax.layers.attention.space_time import SpaceTimeAttention, attend_factorised, attend_over
from vu_jax.layers.attention.window_attention import RelativeBias


def draw(seed: int, *shape: int) -> jax.Array:
  return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def made(module, *args):
  """The module with random parameters, biases included, as one program, and these parameters."""
  leaves, tree = jax.tree.flatten(jax.eval_shape(lambda: module.init(jax.random.key(0), *args)))
  variables = jax.tree.unflatten(tree, [draw(i, *x.shape) / 3 for i, x in enumerate(leaves)])
  return jax.jit(partial(module.apply, variables)), jax.device_get(variables["params"])


def by_hand(p, x, heads: int = 2, bias=0.0, mask=True) -> np.ndarray:
  """Self-attention in float64: projection, the softmax of each head, projection."""
  dense = {name: {k: np.asarray(y, np.float64) for k, y in p[name].items()} for name in ("qkv", "out")}
  qkv = x @ dense["qkv"]["kernel"] + dense["qkv"]["bias"]
  q, k, v = rearrange(np.asarray(qkv), "... n (three a d) -> three ... a n d", three=3, a=heads)
  p = np.exp(np.where(mask, q @ k.swapaxes(-1, -2) * q.shape[-1] ** -0.5 + bias, -np.inf))
  out = rearrange(p / p.sum(-1, keepdims=True) @ v, "... a n d -> ... n (a d)")
  return out @ dense["out"]["kernel"] + dense["out"]["bias"]


def close(a, b, atol: float = 3e-6) -> None:
  np.testing.assert_allclose(a, b, atol=atol)


def test_self_attention_by_hand() -> None:
  """The layer is qkv projection, attention within each head, and out projection."""
  x = draw(0, 2, 5, 6)
  layer, p = made(MultiHeadAttention(heads=3), x)
  close(layer(x), by_hand(p, x, heads=3))


def test_cross_attention_to_itself_is_self_attention() -> None:
  """With the parts of the fused kernel as query, key and value, a context equal to the input changes nothing."""
  x, module = draw(0, 2, 5, 6), MultiHeadAttention(heads=2, features=8)
  _, p = made(module, x)
  kernels, biases = (np.split(p["qkv"][n], 3, -1) for n in ("kernel", "bias"))
  cross = {n: {"kernel": k, "bias": b} for n, k, b in zip(("query", "key", "value"), kernels, biases, strict=True)}
  close(jax.jit(module.apply)({"params": {**cross, "out": p["out"]}}, x, x), by_hand(p, x))


def test_context_has_its_own_size() -> None:
  """Context tokens of another count and width are looked at, and all of them matter."""
  x, context = draw(0, 2, 5, 6), draw(1, 2, 3, 4)
  layer, _ = made(MultiHeadAttention(heads=2), x, context)
  assert jax.eval_shape(layer, x, context).shape == x.shape
  gradient = jax.jit(jax.grad(lambda c: (layer(x, c) ** 2).sum()))(context)
  assert (np.abs(gradient).sum(-1) > 0).all()


def test_class_token_beside_a_grid() -> None:
  """A class token is one more token: the joint form on flat tokens without it equals hiding it with a mask."""
  x, extra = draw(0, 2, 2, 3, 2, 4), draw(1, 2, 1, 4)
  joint, p = made(SpaceTimeAttention("joint", heads=2), x)
  tokens = np.concatenate([extra, x.reshape(2, 12, 4)], 1)
  flat = MultiHeadAttention(heads=2)
  hidden = jax.jit(flat.apply)({"params": p["joint"]}, tokens, mask=jnp.arange(13) > 0)
  close(hidden[:, 1:].reshape(x.shape), joint(x))
  assert not np.allclose(by_hand(p["joint"], tokens)[:, 1:].reshape(x.shape), joint(x))


def test_rotary_positions_are_relative() -> None:
  """With rotated queries and keys, moving all positions by the same offset changes nothing; other moves do."""
  x, places = draw(0, 1, 8, 12), grid_positions(2, 2, 2)[:, None]
  module = MultiHeadAttention(heads=2)
  _, p = made(module, x)

  @jax.jit
  def at(places):
    return module.apply({"params": p}, x, rotate=lambda q, k: (rotary(q, places), rotary(k, places)))

  close(at(places), at(places + np.array([3, 1, 2])), atol=1e-5)
  assert not np.allclose(at(places), at(2 * places), atol=1e-3)


@pytest.mark.parametrize("form", ["joint", "factorised"])
def test_dropout_only_in_training(form) -> None:
  """Weights are dropped in training only, by the "dropout" stream; also where heads are shared out."""
  x = draw(0, 1, 2, 2, 2, 4)
  module = SpaceTimeAttention(form, heads=2, dropout=0.5)
  _, p = made(module, x)

  @jax.jit
  def run(seed):
    rngs = {"dropout": jax.random.key(seed)}
    return [module.apply({"params": p}, x, train=train, rngs=rngs) for train in (True, False)]

  (first, whole), (again, _), (other, same) = run(0), run(0), run(1)
  assert (first == again).all()
  assert (first != other).any()
  assert (first != whole).any()
  assert (whole == same).all()


def test_pieces_over_axes() -> None:
  """Each axis is attended to alone: equal to attention over the tokens of one row."""
  x = draw(0, 2, 3, 2, 4, 4)
  layer, p = made(MultiHeadAttention(heads=2), x[:, :, 0, 0])
  axes = ("time", "height", "width", "space")
  time, height, width, space = jax.jit(lambda x: [attend_over(axis, layer, x) for axis in axes])(x)
  hand = partial(by_hand, p)
  for t, h, w in ((0, 1, 3), (2, 0, 1)):
    close(time[:, :, h, w], hand(x[:, :, h, w]))
    close(height[:, t, :, w], hand(x[:, t, :, w]))
    close(width[:, t, h], hand(x[:, t, h]))
    close(space[:, t], hand(x[:, t].reshape(2, 8, 4)).reshape(2, 2, 4, 4))


def test_joint_at_the_edges() -> None:
  """Joint attention on one frame is attention over space, at one place it is attention over time."""
  x = draw(0, 2, 3, 2, 2, 4)
  joint, p = made(SpaceTimeAttention("joint", heads=2), x)
  close(joint(x[:, :1]), by_hand(p["joint"], x[:, 0].reshape(2, 4, 4)).reshape(2, 1, 2, 2, 4))
  close(joint(x[:, :, :1, :1]), by_hand(p["joint"], x[:, :, 0, 0]).reshape(2, 3, 1, 1, 4))


@pytest.mark.parametrize(("form", "axes"), [("divided", ("time", "space")), ("axial", ("time", "height", "width"))])
def test_one_axis_after_the_other(form, axes) -> None:
  """Each attention sees the input plus what the ones before found; x + the result is a chain of residual paths."""
  x = draw(0, 2, 3, 2, 2, 4)
  layer, p = made(SpaceTimeAttention(form, heads=2), x)
  chain = x
  for axis in axes:
    before = chain
    chain = chain + attend_over(axis, lambda rows, axis=axis: jnp.asarray(by_hand(p[axis], rows), jnp.float32), chain)
  close(layer(x), chain - before)


def test_factorised_heads() -> None:
  """The first heads see their frame and not other frames, the last see their place and not others."""
  q, k, v = (draw(i, 1, 3, 2, 2, 4, 2) for i in range(3))
  seen = jax.jit(jax.jacobian(lambda v: attend_factorised(q, k, v)[0, 1, 0, 1].sum(-1)))(v)
  for head in range(4):
    here = np.abs(seen[head, 0]).sum(-1) > 0
    expected = np.zeros((3, 2, 2, 4), bool)
    expected[(1, slice(None), slice(None)) if head < 2 else (slice(None), 0, 1)][..., head] = True
    assert (here == expected).all()


@pytest.mark.parametrize("form", ["joint", "divided", "axial", "factorised"])
def test_causal_forms_do_not_see_the_future(monkeypatch, form) -> None:
  """The gradient of a frame's tokens with respect to later frames is exactly zero, to its own and earlier not."""
  monkeypatch.setattr(attention_chunked, "CHUNK_SCORES", 24)
  monkeypatch.setattr(attention_chunked, "CAUSAL_SPANS", 2)
  x = draw(0, 1, 4, 2, 2, 4)
  layers = [made(SpaceTimeAttention(form, heads=2, causal=True, lowering=n), x)[0] for n in ("plain", "chunked")]
  gradients = jax.jit(lambda x: [jax.grad(lambda x, f=f: (f(x)[:, 2] ** 2).sum())(x) for f in layers])(x)
  for gradient in gradients:
    size = np.abs(gradient).sum((0, 2, 3, 4))
    assert (size[:3] > 0).all()
    assert size[3] == 0


def test_relative_bias_by_hand() -> None:
  """Equal offsets share an entry of the table, different ones do not, and smaller windows keep their entries."""
  module = RelativeBias((2, 2, 3), heads=2)
  table = np.arange(90, dtype="float32").reshape(45, 2)
  variables = {"params": {"table": jnp.asarray(table)}}
  whole, small = jax.jit(lambda p: [module.apply(p, size) for size in ((2, 2, 3), (2, 1, 2))])(variables)
  whole, table = np.asarray(whole), table.reshape(3, 3, 5, 2)
  places = list(np.ndindex(2, 2, 3))
  for i, query in enumerate(places):
    for j, key in enumerate(places):
      a, b, c = np.subtract(query, key) + np.array([1, 1, 2])
      assert (whole[:, i, j] == table[a, b, c]).all()
  inside = [i for i, (_, h, w) in enumerate(places) if h < 1 and w < 2]
  assert (small == whole[:, inside][:, :, inside]).all()


@pytest.mark.parametrize(
  ("grid", "window", "shift"),
  [
    ((4, 4, 2), (2, 2, 2), (1, 1, 0)),
    ((3, 5, 4), (2, 2, 3), (0, 0, 0)),
    ((3, 5, 4), (2, 3, 3), (1, 2, 1)),
    ((2, 3, 2), (4, 3, 3), (2, 1, 1)),  # covers the grid: not shifted
  ],
)
def test_windows_equal_a_mask_over_all_tokens(grid, window, shift) -> None:
  """Shifted and padded windows equal joint attention in which tokens see those of their window in the shifted grid."""
  x = draw(0, 2, *grid, 4)
  layer, p = made(SpaceTimeAttention("windowed", heads=2, window=window, shift=shift), x)
  places = np.array(list(np.ndindex(*grid)))
  # A token at n lies in the window floor((n - shift) / window): the first ones are cut by the edge of the grid.
  cell = (places - np.where(np.array(window) < grid, shift, 0)) // window
  see = (cell[:, None] == cell[None]).all(-1)
  apart = places[:, None] - places[None] + np.array(window) - 1
  inside = np.clip(apart, 0, 2 * np.array(window) - 2)
  table = p["bias"]["table"].reshape(*(2 * np.array(window) - 1), 2)
  bias = np.moveaxis(table[tuple(np.moveaxis(inside, -1, 0))], -1, 0)
  close(layer(x), by_hand(p["window"], x.reshape(2, -1, 4), bias=bias, mask=see).reshape(x.shape))


@pytest.mark.parametrize("form", ["axial", "factorised", "windowed"])
def test_bfloat16_is_close(form) -> None:
  """Computed in bfloat16 a form is near float32, and parameters stay float32."""
  x = draw(0, 1, 2, 2, 4, 4)
  full, p = made(SpaceTimeAttention(form, heads=2, window=(2, 2, 2), shift=(0, 0, 1)), x)
  half = SpaceTimeAttention(form, heads=2, window=(2, 2, 2), shift=(0, 0, 1), dtype="bfloat16")
  out, exact = jax.jit(lambda p, x: (half.apply({"params": p}, x), full(x)))(p, x)
  assert out.dtype == jnp.bfloat16
  close(np.asarray(out, "float32"), exact, atol=0.1)
  initial = jax.eval_shape(lambda: half.init(jax.random.key(0), x))
  assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(initial))


@pytest.mark.parametrize(
  ("layer", "message"),
  [
    (SpaceTimeAttention("joint", heads=3), "3 heads do not divide 4 features"),
    (SpaceTimeAttention("factorised", heads=1), "1 heads do not divide by 2"),
    (SpaceTimeAttention("windowed", heads=2, causal=True), '"windowed" cannot be causal'),
    (SpaceTimeAttention("windowed", heads=2, window=(2, 2, 2), shift=(0, 2, 0)), r"shift \(0, 2, 0\).*\(2, 2, 2\)"),
  ],
)
def test_wrong_arguments(layer, message) -> None:
  """One line names the numbers."""
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(layer.init, jax.random.key(0), draw(0, 1, 2, 2, 2, 4))


def test_equals_torch_multihead_attention() -> None:
  """torch's layer, with its weights transposed, gives the same for self- and cross-attention."""
  torch = peer("torch")
  x, context = draw(0, 2, 5, 8), draw(1, 2, 3, 8)
  theirs = torch.nn.MultiheadAttention(8, 2, batch_first=True)
  weights = {k: w.detach().numpy().T for k, w in theirs.state_dict().items()}
  out = {"kernel": weights["out_proj.weight"], "bias": weights["out_proj.bias"]}
  qkv = {"kernel": weights["in_proj_weight"], "bias": weights["in_proj_bias"]}
  parts = [
    {"kernel": a, "bias": b} for a, b in zip(np.split(qkv["kernel"], 3, 1), np.split(qkv["bias"], 3), strict=True)
  ]
  tx, tc = (torch.tensor(np.asarray(y)) for y in (x, context))
  apply = jax.jit(MultiHeadAttention(heads=2).apply)
  close(apply({"params": {"qkv": qkv, "out": out}}, x), theirs(tx, tx, tx)[0].detach().numpy())
  cross = dict(zip(("query", "key", "value"), parts, strict=True))
  close(apply({"params": {**cross, "out": out}}, x, context), theirs(tx, tc, tc)[0].detach().numpy())


@pytest.mark.parametrize("grid", [(4, 4, 4), (2, 4, 6)])
def test_equals_torchvision_windows(grid) -> None:
  """torchvision's shifted 3-D windows give the same where the window divides the grid."""
  torch, swin = peer("torch"), peer("torchvision.models.video.swin_transformer")

  x = draw(0, 2, *grid, 8)
  module = swin.ShiftedWindowAttention3d(8, [2, 2, 2], [1, 1, 1], 2).eval()
  weights = {k: w.detach().numpy() for k, w in module.state_dict().items()}

  def dense(name):
    return {"kernel": weights[f"{name}.weight"].T, "bias": weights[f"{name}.bias"]}

  table = {"table": weights["relative_position_bias_table"] * 20}
  with torch.no_grad():
    module.relative_position_bias_table *= 20
    theirs = module(torch.tensor(np.asarray(x))).numpy()
  layer = SpaceTimeAttention("windowed", heads=2, window=(2, 2, 2), shift=(1, 1, 1))
  params = {"window": {"qkv": dense("qkv"), "out": dense("proj")}, "bias": table}
  close(jax.jit(layer.apply)({"params": params}, x), theirs)
