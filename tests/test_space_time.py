"""Multi-head attention and its forms over grids of space and time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vu_jax.layers import attention_lowerings
from vu_jax.layers.positions import grid_positions, rotary
from vu_jax.layers.space_time import (
  MultiHeadAttention,
  RelativeBias,
  SpaceTimeAttention,
  attend_factorised,
  attend_over,
  attend_space,
  attend_time,
)


def draw(seed: int, *shape: int) -> jax.Array:
  return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def made(module, *args, seed: int = 0, **kwargs):
  """The module with random parameters, biases included, and these parameters."""
  shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), *args, **kwargs))
  leaves, tree = jax.tree.flatten(shapes)
  variables = jax.tree.unflatten(tree, [draw(seed + i, *x.shape) / 3 for i, x in enumerate(leaves)])
  return module.bind(variables), variables["params"]


def close(a, b, atol: float = 3e-6) -> None:
  np.testing.assert_allclose(a, b, atol=atol)


def test_self_attention_by_hand() -> None:
  """The layer is qkv projection, attention within each head, and out projection."""
  x = draw(0, 2, 5, 6)
  layer, p = made(MultiHeadAttention(heads=3), x)
  q, k, v = np.split(x @ p["qkv"]["kernel"] + p["qkv"]["bias"], 3, axis=-1)
  heads = []
  for i in range(3):
    a, b, c = (y[..., 2 * i : 2 * i + 2] for y in (q, k, v))
    heads.append(jax.nn.softmax(a @ b.swapaxes(1, 2) / 2**0.5) @ c)
  close(layer(x), np.concatenate(heads, -1) @ p["out"]["kernel"] + p["out"]["bias"])


def test_cross_attention_to_itself_is_self_attention() -> None:
  """With the parts of the fused kernel as query, key and value, a context equal to the input changes nothing."""
  x = draw(0, 2, 5, 6)
  layer, p = made(MultiHeadAttention(heads=2, features=8), x)
  parts = zip(
    ("query", "key", "value"),
    zip(*(np.split(p["qkv"][n], 3, -1) for n in ("kernel", "bias")), strict=True),
    strict=True,
  )
  cross = {name: {"kernel": kernel, "bias": bias} for name, (kernel, bias) in parts}
  out = MultiHeadAttention(heads=2, features=8).apply({"params": {**cross, "out": p["out"]}}, x, x)
  close(out, layer(x))


def test_context_has_its_own_size() -> None:
  """Context tokens of another count and width are looked at, and all of them matter."""
  x, context = draw(0, 2, 5, 6), draw(1, 2, 3, 4)
  layer, _ = made(MultiHeadAttention(heads=2), x, context)
  assert layer(x, context).shape == x.shape
  gradient = jax.grad(lambda c: (layer(x, c) ** 2).sum())(context)
  assert (np.abs(gradient).sum(-1) > 0).all()


def test_class_token_beside_a_grid() -> None:
  """A class token is one more token: the joint form on flat tokens without it equals hiding it with a mask."""
  x, extra = draw(0, 2, 2, 3, 2, 4), draw(1, 2, 1, 4)
  joint, p = made(SpaceTimeAttention("joint", heads=2), x)
  flat = MultiHeadAttention(heads=2).bind({"params": p["joint"]})
  tokens = jnp.concatenate([extra, x.reshape(2, 12, 4)], 1)
  close(flat(tokens, mask=jnp.arange(13) > 0)[:, 1:].reshape(x.shape), joint(x))
  assert not np.allclose(flat(tokens)[:, 1:].reshape(x.shape), joint(x))


def test_rotary_positions_are_relative() -> None:
  """With rotated queries and keys, moving all positions by the same offset changes nothing; other moves do."""
  x, places = draw(0, 1, 8, 12), grid_positions(2, 2, 2)[:, None]
  layer, _ = made(MultiHeadAttention(heads=2), x)

  def at(places):
    return layer(x, rotate=lambda q, k: (rotary(q, places), rotary(k, places)))

  close(at(places), at(places + np.array([3, 1, 2])), atol=1e-5)
  assert not np.allclose(at(places), at(2 * places), atol=1e-3)


def test_dropout_only_in_training() -> None:
  """Weights are dropped in training only, by the "dropout" stream; also where heads are shared out."""
  x = draw(0, 1, 2, 2, 2, 4)
  for form in ("joint", "factorised"):
    layer = SpaceTimeAttention(form, heads=2, dropout=0.5, window=(2, 2, 2))
    _, p = made(layer, x)

    def run(seed, train, p=p, layer=layer):
      return layer.apply({"params": p}, x, train=train, rngs={"dropout": jax.random.key(seed)})

    assert (run(0, True) == run(0, True)).all()
    assert (run(0, True) != run(1, True)).any()
    assert (run(0, False) == run(1, False)).all()


def test_pieces_over_axes() -> None:
  """Each axis is attended to alone: equal to the layer on the tokens of one row."""
  x = draw(0, 2, 3, 2, 4, 4)
  layer, _ = made(MultiHeadAttention(heads=2), x[:, :, 0, 0])
  time, height, width = (attend_over(axis, layer, x) for axis in ("time", "height", "width"))
  space = attend_space(layer, x)
  for t, h, w in ((0, 1, 3), (2, 0, 1)):
    close(time[:, :, h, w], layer(x[:, :, h, w]))
    close(height[:, t, :, w], layer(x[:, t, :, w]))
    close(width[:, t, h], layer(x[:, t, h]))
    close(space[:, t], layer(x[:, t].reshape(2, 8, 4)).reshape(2, 2, 4, 4))


def test_joint_at_the_edges() -> None:
  """Joint attention on one frame is attention over space, at one place it is attention over time."""
  x = draw(0, 2, 3, 2, 2, 4)
  joint, p = made(SpaceTimeAttention("joint", heads=2), x)
  layer = MultiHeadAttention(heads=2).bind({"params": p["joint"]})
  close(joint(x[:, :1]), attend_space(layer, x[:, :1]))
  close(joint(x[:, :, :1, :1]), attend_time(layer, x[:, :, :1, :1]))


@pytest.mark.parametrize(("form", "axes"), [("divided", ("time", "space")), ("axial", ("time", "height", "width"))])
def test_one_axis_after_the_other(form, axes) -> None:
  """Each attention sees the input plus what the ones before found; x + the result is a chain of residual paths."""
  x = draw(0, 2, 3, 2, 2, 4)
  layer, p = made(SpaceTimeAttention(form, heads=2), x)
  chain = x
  for axis in axes:
    chain = chain + attend_over(axis, MultiHeadAttention(heads=2).bind({"params": p[axis]}), chain)
  before = x
  for axis in axes[:-1]:
    before = before + attend_over(axis, MultiHeadAttention(heads=2).bind({"params": p[axis]}), before)
  close(layer(x), chain - before)


def test_factorised_heads() -> None:
  """The first heads see their frame and not other frames, the last see their place and not others."""
  q, k, v = (draw(i, 1, 3, 2, 2, 4, 2) for i in range(3))
  seen = jax.grad(lambda v, head: attend_factorised(q, k, v)[0, 1, 0, 1, head].sum())
  for head in range(4):
    here = np.abs(seen(v, head)[0]).sum(-1) > 0
    expected = np.zeros((3, 2, 2, 4), bool)
    expected[(1, slice(None), slice(None)) if head < 2 else (slice(None), 0, 1)][..., head] = True
    assert (here == expected).all()


@pytest.mark.parametrize("form", ["joint", "divided", "axial", "factorised"])
@pytest.mark.parametrize("lowering", ["plain", "chunked"])
def test_causal_forms_do_not_see_the_future(monkeypatch, form, lowering) -> None:
  """The gradient of a frame's tokens with respect to later frames is exactly zero, to its own and earlier not."""
  monkeypatch.setattr(attention_lowerings, "CHUNK_SCORES", 24)
  x = draw(0, 1, 4, 2, 2, 4)
  layer, _ = made(SpaceTimeAttention(form, heads=2, causal=True, lowering=lowering), x)
  size = np.abs(jax.grad(lambda x: (layer(x)[:, 2] ** 2).sum())(x)).sum((0, 2, 3, 4))
  assert (size[:3] > 0).all()
  assert size[3] == 0


def test_relative_bias_by_hand() -> None:
  """Equal offsets share an entry of the table, different ones do not, and smaller windows keep their entries."""
  bias, p = made(RelativeBias((2, 2, 3), heads=2), (2, 2, 3))
  whole, table = bias((2, 2, 3)), p["table"].reshape(3, 3, 5, 2)
  places = list(np.ndindex(2, 2, 3))
  for i, query in enumerate(places):
    for j, key in enumerate(places):
      a, b, c = np.subtract(query, key) + np.array([1, 1, 2])
      assert (whole[:, i, j] == table[a, b, c]).all()
  inside = [i for i, (_, h, w) in enumerate(places) if h < 1 and w < 2]
  assert (bias((2, 1, 2)) == whole[:, inside][:, :, inside]).all()


def test_window_over_everything_is_joint() -> None:
  """A window that covers the grid sees all tokens; the shift is then without effect."""
  x = draw(0, 2, 2, 3, 2, 4)
  layer, p = made(SpaceTimeAttention("windowed", heads=2, window=(4, 3, 3), shift=(2, 1, 1)), x)
  bias = RelativeBias((4, 3, 3), 2).apply({"params": p["bias"]}, (2, 3, 2))
  flat = MultiHeadAttention(heads=2).bind({"params": p["window"]})
  close(layer(x), flat(x.reshape(2, 12, 4), bias=bias).reshape(x.shape))


@pytest.mark.parametrize(
  ("grid", "window", "shift"),
  [((4, 4, 2), (2, 2, 2), (1, 1, 0)), ((3, 5, 4), (2, 2, 3), (0, 0, 0)), ((3, 5, 4), (2, 3, 3), (1, 2, 1))],
)
def test_windows_equal_a_mask_over_all_tokens(grid, window, shift) -> None:
  """Shifted and padded windows equal joint attention in which tokens see those of their window in the shifted grid."""
  x = draw(0, 2, *grid, 4)
  layer, p = made(SpaceTimeAttention("windowed", heads=2, window=window, shift=shift), x)
  places = np.array(list(np.ndindex(*grid)))
  # A token at n lies in the window floor((n - shift) / window): the first ones are cut by the edge of the grid.
  cell = (places - shift) // window
  see = (cell[:, None] == cell[None]).all(-1)
  apart = places[:, None] - places[None] + np.array(window) - 1
  inside = np.clip(apart, 0, 2 * np.array(window) - 2)
  table = p["bias"]["table"].reshape(*(2 * np.array(window) - 1), 2)
  bias = jnp.moveaxis(table[tuple(np.moveaxis(inside, -1, 0))], -1, 0)
  flat = MultiHeadAttention(heads=2).bind({"params": p["window"]})
  close(layer(x), flat(x.reshape(2, -1, 4), bias=bias, mask=jnp.asarray(see)).reshape(x.shape))


@pytest.mark.parametrize("form", ["axial", "factorised", "windowed"])
def test_bfloat16_is_close(form) -> None:
  """Computed in bfloat16 a form is near float32, and parameters stay float32."""
  x = draw(0, 1, 2, 2, 4, 4)
  full, p = made(SpaceTimeAttention(form, heads=2, window=(2, 2, 2), shift=(0, 0, 1)), x)
  half = SpaceTimeAttention(form, heads=2, window=(2, 2, 2), shift=(0, 0, 1), dtype="bfloat16")
  out = half.apply({"params": p}, x)
  assert out.dtype == jnp.bfloat16
  close(out.astype("float32"), full(x), atol=0.1)
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
    layer.init(jax.random.key(0), draw(0, 1, 2, 2, 2, 4))


def test_equals_torch_multihead_attention() -> None:
  """torch's layer, with its weights transposed, gives the same for self- and cross-attention."""
  torch = pytest.importorskip("torch")
  x, context = draw(0, 2, 5, 8), draw(1, 2, 3, 8)
  peer = torch.nn.MultiheadAttention(8, 2, batch_first=True)
  weights = {k: jnp.asarray(w.detach().numpy()).T for k, w in peer.state_dict().items()}
  out = {"kernel": weights["out_proj.weight"], "bias": weights["out_proj.bias"]}
  qkv = {"kernel": weights["in_proj_weight"], "bias": weights["in_proj_bias"]}
  parts = [
    {"kernel": a, "bias": b} for a, b in zip(jnp.split(qkv["kernel"], 3, 1), jnp.split(qkv["bias"], 3), strict=True)
  ]
  tx, tc = (torch.tensor(np.asarray(y)) for y in (x, context))
  layer = MultiHeadAttention(heads=2)
  ours = layer.apply({"params": {"qkv": qkv, "out": out}}, x)
  close(ours, peer(tx, tx, tx)[0].detach().numpy())
  cross = dict(zip(("query", "key", "value"), parts, strict=True))
  close(layer.apply({"params": {**cross, "out": out}}, x, context), peer(tx, tc, tc)[0].detach().numpy())


@pytest.mark.parametrize("grid", [(4, 4, 4), (2, 4, 6)])
def test_equals_torchvision_windows(grid) -> None:
  """torchvision's shifted 3-D windows give the same where the window divides the grid."""
  # A torchvision that does not fit the installed torch fails with a RuntimeError.
  swin = pytest.importorskip("torchvision.models.video.swin_transformer", exc_type=(ImportError, RuntimeError))
  import torch

  x = draw(0, 2, *grid, 8)
  peer = swin.ShiftedWindowAttention3d(8, [2, 2, 2], [1, 1, 1], 2).eval()
  weights = {k: jnp.asarray(w.detach().numpy()) for k, w in peer.state_dict().items()}

  def dense(name):
    return {"kernel": weights[f"{name}.weight"].T, "bias": weights[f"{name}.bias"]}

  table = {"table": weights["relative_position_bias_table"] * 20}
  with torch.no_grad():
    peer.relative_position_bias_table *= 20
    theirs = peer(torch.tensor(np.asarray(x))).numpy()
  layer = SpaceTimeAttention("windowed", heads=2, window=(2, 2, 2), shift=(1, 1, 1))
  params = {"window": {"qkv": dense("qkv"), "out": dense("proj")}, "bias": table}
  close(layer.apply({"params": params}, x), theirs)
