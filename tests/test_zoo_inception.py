"""MODEL: the Inception family, by hand and by published numbers of parameters."""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vu_jax.errors import UserError
from vu_jax.layers.batch_norm import BatchNorm
from vu_jax.layers.blocks.inception import STAGES, Mixed, Style, Unit, sliding_mean
from vu_jax.layers.norm import batch_norm
from vu_jax.models import i3d, inception, s3d

EPSILON = 1e-3


def style(kind: Any, padding: Any, **more: Any) -> Style:
  scaled = more.pop("use_scale", True)
  return Style(kind, batch_norm(train=False, epsilon=EPSILON, use_scale=scaled), padding, width=1 / 64, **more)


@functools.cache
def shapes(model: nn.Module, size: tuple[int, ...]) -> tuple[Any, Any]:
  """(outputs, variables) for one clip of (T, H, W, C); nothing is computed."""
  video = jax.ShapeDtypeStruct((1, *size), jnp.float32)
  return jax.eval_shape(functools.partial(model.init_with_output, train=False), jax.random.key(0), video)


def count(tree: Any) -> int:
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def in_time(*values: float) -> jax.Array:
  """A video of one pixel and one channel."""
  return jnp.asarray(values, jnp.float32).reshape(1, -1, 1, 1, 1)


def taps(*values: float) -> jax.Array:
  return jnp.asarray(values, jnp.float32).reshape(-1, 1, 1, 1, 1)


CLIP = (8, 32, 32, 3)
NO_CHANGE = {"mean": jnp.zeros(1), "var": jnp.full(1, 1 - EPSILON)}  # with it, batch norm does nothing

# Parameters with Kinetics' 400 classes (GoogLeNet: ImageNet's 1000): torchvision's weight metadata, kinetics-i3d, and
# for the rest the same plus its gates: the sum of squares of the gated widths is 1,219,328.
COUNTS = {
  "s3d": (s3d.Model(**s3d.PRESETS["s3d"]), 400, 8_320_048),
  "s3dg": (s3d.Model(**s3d.PRESETS["s3dg"]), 400, 8_320_048 + 1_219_328),
  "s3dg_slim": (s3d.Model(**s3d.PRESETS["s3dg_slim"]), 400, 8_337_152 + 1_219_328),
  "i3d": (i3d.Model(**i3d.PRESETS["i3d"]), 400, 12_689_984),
  "googlenet": (inception.Model(**inception.PRESETS["googlenet"]), 1000, 6_624_904),
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_are_as_many_as_published(name: str):
  """Backbone and a linear classifier on 1024 features."""
  model, classes, published = COUNTS[name]
  assert count(shapes(model, CLIP)[1]["params"]) + (1024 + 1) * classes == published


def test_mmv_has_both_norms_and_a_bias_in_gates():
  """Against torchvision's S3D-G: a 7x7x7 kernel instead of 1x7x7, norm, 7x1x1; and one bias per gated channel."""
  s3dg, mmv = (shapes(s3d.Model(**s3d.PRESETS[name]), CLIP)[1]["params"] for name in ("s3dg", "s3dg_mmv"))
  stem = 7**3 * 3 * 64 - (7**2 * 3 * 64 + 2 * 64 + 7 * 64**2)
  gated = 192 + sum(w.point + w.three + w.five + w.pool for stage in STAGES for w in stage.values())
  assert count(mmv) - count(s3dg) == stem + gated


def test_flow_only_changes_the_first_kernel():
  """Two channels instead of three: 7x7x7 taps to 64 channels fewer."""
  colour, flow = (shapes(i3d.Model(blocks=(0, 0, 0)), (8, 32, 32, c))[1]["params"] for c in (3, 2))
  changed = jax.tree.map(lambda a, b: math.prod(a.shape) - math.prod(b.shape), colour, flow)
  assert sum(jax.tree.leaves(changed)) == changed["trunk"]["stem"]["conv"]["kernel"] == 7**3 * 64


GRIDS = [
  (s3d, {}, (13, 209, 224), (2, 7, 7)),
  (s3d, {}, (12, 208, 224), (1, 6, 7)),  # one frame and one row less
  (s3d, {"variant": "slim"}, (9, 193, 224), (2, 7, 7)),
  (i3d, {}, (9, 193, 224), (2, 7, 7)),
  (i3d, {}, (8, 192, 224), (1, 6, 7)),
  (i3d, {}, (64, 224, 224), (8, 7, 7)),
  (inception, {}, (3, 224, 224), (3, 7, 7)),
  (inception, {}, (3, 206, 207), (3, 6, 7)),
  *[(module, {}, (1, 1, 1), (1, 1, 1)) for module in (s3d, i3d, inception)],
]


@pytest.mark.parametrize(("module", "fields", "size", "grid"), GRIDS)
def test_grid_of_tokens(module: Any, fields: dict[str, Any], size: tuple[int, int, int], grid: tuple[int, int, int]):
  """Which sizes give the published head its 2x7x7 tokens, and that none is too small; blocks keep the grid."""
  out, _ = shapes(module.Model(blocks=(0, 0, 0), width=1 / 64, **fields), (*size, 3))
  assert out["tokens"].shape[1:4] == grid
  assert out["pooled"].shape == (1, 3)


def test_padding_of_tensorflow_and_of_torch():
  """A window of 3 at stride 2 on 1, 2, 3, 4: "SAME" starts at the first, symmetric padding one before it."""
  found = {}
  for padding in ("same", "symmetric"):
    unit = Unit(64, style("full", padding, use_scale=False), frames=3, stride=2)
    variables = {"params": {"conv": {"kernel": taps(1, 10, 100)}, "norm": {"bias": jnp.zeros(1)}}}
    found[padding] = unit.apply(variables | {"batch_stats": {"norm": NO_CHANGE}}, in_time(1, 2, 3, 4)).ravel()
  np.testing.assert_allclose(found["same"], [321, 43], rtol=1e-6)
  np.testing.assert_allclose(found["symmetric"], [210, 432], rtol=1e-6)


def test_batch_norm_without_a_factor():
  """relu((x - mean) / sqrt(variance + 0.001) + offset); there is no other parameter."""
  unit = Unit(64, style("full", "same", use_scale=False))
  params = {"conv": {"kernel": taps(2)}, "norm": {"bias": jnp.asarray([0.5])}}
  stats = {"mean": jnp.asarray([3.0]), "var": jnp.asarray([4.0 - EPSILON])}
  y = unit.apply({"params": params, "batch_stats": {"norm": stats}}, in_time(1, 2, 5))
  np.testing.assert_allclose(
    y.ravel(), [0, 1, 4], rtol=1e-5
  )  # (2 - 3) / 2 + 0.5, (4 - 3) / 2 + 0.5, (10 - 3) / 2 + 0.5


@pytest.mark.parametrize("temporal_norm", [True, False])
def test_separable_convolution_cuts_negatives_before_it_looks_into_time(temporal_norm: bool):
  """Space, norm, ReLU, time, norm (or only a bias), ReLU: what is negative after the first part counts as zero."""
  unit = Unit(64, style("separable", "symmetric", temporal_norm=temporal_norm), frames=3)
  identity = {"scale": jnp.ones(1), "bias": jnp.zeros(1)}
  conv = {"spatial": {"kernel": taps(1)}, "norm": identity, "temporal": {"kernel": taps(1, 10, 100)}}
  params = {"conv": conv} | ({"norm": identity} if temporal_norm else {"bias": jnp.full(1, -20.0)})
  stats = {"conv": {"norm": NO_CHANGE}} | ({"norm": NO_CHANGE} if temporal_norm else {})
  y = unit.apply({"params": params, "batch_stats": stats}, in_time(1, -2, 3)).ravel()
  np.testing.assert_allclose(y, [10, 301, 30] if temporal_norm else [0, 281, 10], rtol=1e-5)


def test_gates_of_the_last_convolution_of_every_branch():
  """With kernels of gates at zero and biases of ln 3, three quarters of every branch pass, not nine sixteenths."""
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.standard_normal((1, 2, 3, 3, 4)), jnp.float32)
  gated, free = (Mixed(STAGES[0]["3b"], style("separable", "symmetric", gate=gate)) for gate in ("bias", "none"))

  def draw(path: Any, leaf: Any) -> jax.Array:
    if path[-2].key == "gate":
      return jnp.full(leaf.shape, math.log(3) if path[-1].key == "bias" else 0.0)
    return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), jnp.float32)

  variables = jax.tree_util.tree_map_with_path(draw, jax.eval_shape(gated.init, jax.random.key(0), x))
  assert {name for name, unit in variables["params"].items() if "gating" in unit} == {"point", "three", "five", "pool"}
  found, plain = jax.jit(lambda: (gated.apply(variables, x), free.apply(variables, x)))()
  np.testing.assert_allclose(found, 0.75 * plain, rtol=1e-5)
  assert plain.any((0, 1, 2, 3)).all()


def test_blocks_lie_side_by_side_in_the_channels():
  """192 channels become 64 + 128 + 32 + 32 in the first block and 128 + 192 + 96 + 64 in the second."""
  x = jax.ShapeDtypeStruct((1, 2, 4, 4, 192), jnp.float32)
  for name, channels in (("3b", 256), ("3c", 480)):
    block = Mixed(STAGES[0][name], Style("full", batch_norm(train=False), "same"))
    x, _ = jax.eval_shape(block.init_with_output, jax.random.key(0), x)
    assert x.shape == (1, 2, 4, 4, channels)


def test_tokens_at_the_ends_weigh_less():
  """Windows of 2 over three frames: weights 1/4, 1/2, 1/4. Fewer tokens than the window: the plain mean."""
  frames = jnp.asarray([4.0, 8.0, 16.0]).reshape(1, 3, 1, 1, 1)
  assert sliding_mean(jnp.broadcast_to(frames, (1, 3, 7, 7, 1))).tolist() == [[9.0]]
  assert sliding_mean(frames[:, 1:]).tolist() == [[12.0]]
  columns = jnp.arange(8.0).reshape(1, 1, 1, 8, 1)  # windows 0..6 and 1..7, means 3 and 4
  assert sliding_mean(columns).tolist() == [[3.5]]


def test_s3d_and_i3d_normalise_as_published():
  """(epsilon, momentum) of every batch norm, and that frozen ones use what is stored."""

  def settings(model: nn.Module) -> set[tuple[float, float, bool]]:
    found = set()

    def look(call, args, kwargs, context):
      norm = context.module
      if isinstance(norm, BatchNorm):
        found.add((norm.epsilon, norm.momentum, norm.use_running_average))
      return call(*args, **kwargs)

    with nn.intercept_methods(look):
      video = jax.ShapeDtypeStruct((2, 4, 16, 16, 3), jnp.float32)
      jax.eval_shape(functools.partial(model.init, train=True), jax.random.key(0), video)
    return found

  small = {"width": 1 / 64, "blocks": (1, 0, 0)}
  assert settings(s3d.Model(**small)) == settings(i3d.Model(**small)) == {(1e-3, 0.999, False)}
  assert settings(s3d.Model(**s3d.PRESETS["s3dg_mmv"] | small)) == {(1e-5, 0.9, False)}
  assert settings(inception.Model(**small)) == {(1e-3, 0.9, False)}
  for module in (s3d, i3d, inception):
    assert {frozen for *_, frozen in settings(module.Model(norm_frozen=True, **small))} == {True}


def test_more_blocks_than_there_are():
  """The message says how many there are."""
  with pytest.raises(UserError, match=r"blocks = \(3, 5, 2\): at most \(2, 5, 2\)"):
    shapes(s3d.Model(blocks=(3, 5, 2)), (4, 16, 16, 3))
