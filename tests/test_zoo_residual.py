"""MODEL: the residual networks have the published sizes, and their blocks do what the papers say."""

import functools
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vu_jax.config import find_module
from vu_jax.errors import UserError
from vu_jax.layers.blocks.residual import BasicBlock, Stem, stage_rates
from vu_jax.layers.convolution.conv_table import as_written
from vu_jax.layers.norm import batch_norm
from vu_jax.models.c3d import joined
from vu_jax.models.slowfast import Lateral

NORM = batch_norm(train=False)


def preset(name: str, chosen: str, **changes: Any) -> Any:
  module = find_module("model", name)
  return module.Model(**module.PRESETS[chosen] | changes)


@functools.cache
def traced(name: str, fields: tuple[tuple[str, Any], ...]) -> dict[str, tuple[int, ...]]:
  """Path -> shape of every parameter; nothing is run."""
  clip = (16, 112, 112) if name == "c3d" else (4, 32, 32)
  video = jax.ShapeDtypeStruct((1, *clip, 3), jnp.float32)
  init = functools.partial(find_module("model", name).Model(**dict(fields)).init, train=False)
  with as_written():  # traced in the shortest form
    params = jax.eval_shape(init, jax.random.key(0), video)["params"]
  join = functools.partial(jax.tree_util.keystr, simple=True, separator="/")
  return {join(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(params)}


def shapes(name: str, chosen: str) -> dict[str, tuple[int, ...]]:
  """Path -> shape of every parameter of a preset.

  A few blocks per stage are traced; those behind are like the last two in turn.
  """
  few = 8 if chosen == "r101_16x8" else 3  # where 6 blocks differ from those behind
  fields, depths = find_module("model", name).PRESETS[chosen], getattr(preset(name, chosen), "depths", ())
  cut = {"depths": tuple(min(depth, few) for depth in depths)} if depths else {}
  found = dict(traced(name, tuple((fields | cut).items())))
  for path, shape in list(found.items()):
    parts = re.fullmatch(rf"(.*stage(\d)/block)([{few - 2}{few - 1}])(/.*)", path)
    for block in range(int(parts[3]) + 2, depths[int(parts[2]) - 1], 2) if parts else ():
      found[f"{parts[1]}{block}{parts[4]}"] = shape
  return found


def drawn(model: Any, video: Any) -> Any:
  """Variables of which none is zero or one, drawn without compiling."""
  rng = np.random.default_rng(0)
  like = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), video)

  def draw(leaf: Any) -> jax.Array:
    fan_in = math.prod(leaf.shape[:-1]) if leaf.ndim > 1 else 4
    noise = rng.normal(size=leaf.shape) / fan_in**0.5
    return jnp.asarray(np.abs(noise) + 0.5 if leaf.ndim == 1 else noise, leaf.dtype)

  return jax.tree.map(draw, like)


def clip_of(frames: int, side: int) -> np.ndarray:
  return np.random.default_rng(1).normal(size=(1, frames, side, side, 3)).astype(np.float32)


# Parameters with a classifier, as published; of VMZ's without those of norms, in millions, as VMZ counts.
PUBLISHED = [
  ("resnet", "resnet18", 512, 1000, 11_689_512),
  ("resnet", "resnet34", 512, 1000, 21_797_672),
  ("resnet", "resnet50", 2048, 1000, 25_557_032),
  ("resnet", "resnet101", 2048, 1000, 44_549_160),
  ("resnet", "resnet152", 2048, 1000, 60_192_808),
  ("tsm", "tsm_r50", 2048, 174, 23_864_558),
  ("resnet3d", "r3d_18", 512, 400, 33_371_472),
  ("resnet3d", "mc3_18", 512, 400, 11_695_440),
  ("resnet3d", "r2plus1d_18", 512, 400, 31_505_325),
  ("resnet3d", "slow_r50", 2048, 400, 32_454_096),
  ("resnet3d", "i3d_r50", 2048, 400, 28_043_472),
  ("resnet3d", "c2d_r50", 2048, 400, 24_327_632),
  ("slowfast", "r50_4x16", 2304, 400, 34_480_216),
  ("slowfast", "r50_8x8", 2304, 400, 34_566_488),
  ("slowfast", "r101_8x8", 2304, 400, 62.83),
  ("slowfast", "r101_16x8", 2304, 400, 53.77),
  ("csn", "ir_csn_101", 2048, 400, 22.21),
  ("csn", "ir_csn_152", 2048, 400, 29.7),
  ("x3d", "x3d_m", 2048, 400, 3_794_322),
  ("x3d", "x3d_l", 2048, 400, 6_153_384 + 48),  # published without a norm in one shortcut
  ("c3d", "c3d", 4096, 101, 78_409_573),  # 78.41 M
  ("c3d", "c3d", 4096, 487, 79_991_015),
  ("c3d", "c3d_ucf101", 2048, 101, 17_444_965),  # "17.5 millions"
]
VMZ = [
  ("resnet3d", "r2plus1d_34", 512, 63.6),
  ("resnet3d", "r2plus1d_152", 2048, 118.0),
  ("csn", "ir_csn_152", 2048, 29.6),
  ("csn", "ip_csn_152", 2048, 32.8),
]


@pytest.mark.parametrize(("name", "chosen", "width", "classes", "published"), PUBLISHED)
def test_parameter_counts(name: str, chosen: str, width: int, classes: int, published: float):
  """As many as the authors' networks have; where they print millions, rounded as they print it."""
  count = sum(math.prod(s) for s in shapes(name, chosen).values()) + (width + 1) * classes
  if isinstance(published, int):
    assert count == published
  else:
    assert round(count / 1e6, len(str(published).split(".")[1])) == published


@pytest.mark.parametrize(("name", "chosen", "width", "millions"), VMZ)
def test_parameter_counts_of_vmz(name: str, chosen: str, width: int, millions: float):
  """Kernels and the classifier, to 0.1 million."""
  kernels = sum(math.prod(s) for path, s in shapes(name, chosen).items() if path.endswith("kernel"))
  assert round((kernels + (width + 1) * 400) / 1e6, 1) == millions


def test_windows_of_the_presets():
  """What time sees where: torchvision's and PySlowFast's tables."""
  mixed, two, inflated = (shapes("resnet3d", n) for n in ("mc3_18", "r2plus1d_18", "i3d_r50"))
  assert mixed["stage1/block1/conv2/kernel"] == (3, 3, 3, 64, 64)
  assert mixed["stage2/block0/conv1/kernel"] == (1, 3, 3, 64, 128)
  # 27 * 64 * 128 // (9 * 64 + 3 * 128) = 230 channels between space and time, in both convolutions of the block
  assert two["stage2/block0/conv1/spatial/kernel"] == (1, 3, 3, 64, 230)
  assert two["stage2/block0/conv2/spatial/kernel"] == (1, 3, 3, 128, 230)
  assert two["stage2/block0/conv2/temporal/kernel"] == (3, 1, 1, 230, 128)
  assert (two["stem/conv/kernel"], two["stem/time/kernel"]) == ((1, 7, 7, 3, 45), (3, 1, 1, 45, 64))
  times = [[inflated[f"stage{s}/block{b}/conv1/kernel"][0] for b in range(3)] for s in (1, 2, 3, 4)]
  assert times == [[3, 3, 3], [3, 1, 3], [3, 1, 3], [1, 3, 1]]


def test_drop_path_grows_over_all_stages():
  """Four blocks in two stages: 0, a third, two thirds and all of the rate."""
  np.testing.assert_allclose(stage_rates(0.3, (1, 3))[0] + stage_rates(0.3, (1, 3))[1], [0, 0.1, 0.2, 0.3])
  assert [len(rates) for rates in stage_rates(0.3, (1, 3))] == [1, 3]


@pytest.mark.parametrize("name", ["resnet", "tsm", "resnet3d", "csn", "slowfast", "x3d"])
def test_drop_path_drops_in_training_only(name: str):
  """One random draw per block but the first of each pathway, which is always kept."""
  module = find_module("model", name)
  model = module.Model(**module.TINY | {"drop_path": 0.5})
  video, key = jax.ShapeDtypeStruct((1, 3, 16, 16, 3), jnp.float32), jax.random.key(0)
  blocks = (2 if name == "slowfast" else 1) * (sum(module.TINY["depths"]) - 1)
  for train in (True, False) if name == "resnet" else (True,):
    init = functools.partial(model.init_with_output, {"params": key, "dropout": key}, train=train)
    assert str(jax.make_jaxpr(init)(video)).count("name=_bernoulli") == (blocks if train else 0)


def test_a_fresh_block_is_the_identity():
  """The factor of its last norm is zero, so only the shortcut is left, and what was positive stays."""
  x = np.abs(np.random.default_rng(0).normal(size=(1, 2, 4, 4, 3))).astype(np.float32)
  block = BasicBlock(3, NORM, window=(3, 3, 3))
  y, variables = jax.jit(functools.partial(block.init_with_output, train=False))(jax.random.key(1), x)
  np.testing.assert_allclose(y, x, rtol=1e-6)
  assert set(variables["params"]) == {"conv1", "conv2", "norm1", "norm2"}  # no shortcut where nothing changes shape


def test_frozen_norms_train_as_they_evaluate():
  """With `norm_frozen` a call in training gives the outputs of evaluation and moves no statistics."""
  module = find_module("model", "resnet")
  model = module.Model(**module.TINY | {"depths": (1,), "norm_frozen": True})
  video = clip_of(2, 8)
  variables = drawn(model, video)

  @jax.jit
  def both(video):
    return model.apply(variables, video, train=True, mutable="batch_stats"), model.apply(variables, video, train=False)

  (trained, changed), evaluated = both(video)
  np.testing.assert_array_equal(trained["pooled"], evaluated["pooled"])
  jax.tree.map(np.testing.assert_array_equal, changed["batch_stats"], variables["batch_stats"])


def test_tsm_shifts_what_the_residual_branch_sees():
  """One block by hand: of 8 channels, 0 comes from the next frame, 1 from the one before; the shortcut is unshifted."""
  model, block = preset("tsm", "tsm_r18", depths=(1,), width=8), BasicBlock(8, NORM)
  video = clip_of(3, 8)
  variables = drawn(model, video)

  def at(*path: str) -> Any:
    return {k: functools.reduce(lambda tree, name: tree[name], path, v["trunk"]) for k, v in variables.items()}

  @jax.jit
  def run(video):
    x = Stem(8, NORM).apply(at("stem"), video)
    zero = jnp.zeros_like(x[:, 0, ..., :1])
    after = jnp.stack([x[:, 1, ..., :1], x[:, 2, ..., :1], zero], axis=1)
    before = jnp.stack([zero, x[:, 0, ..., 1:2], x[:, 1, ..., 1:2]], axis=1)
    shifted = jnp.concatenate([after, before, x[..., 2:]], axis=-1)
    branch, whole = (block.apply(at("stage1", "block0"), y, shifted, train=False) for y in (x, shifted))
    return model.apply(variables, video, train=False)["tokens"], branch, whole

  found, branch, whole = run(video)
  np.testing.assert_allclose(found, branch, rtol=1e-5, atol=1e-6)
  assert not np.allclose(found, whole, atol=1e-3)


def test_tsm_on_deep_networks_shifts_every_second_block():
  """ResNet-101 keeps states for 2 + 2 + 12 + 2 blocks, ResNet-50 for all 16; only the causal network has a stream."""
  deep, shallow = (preset("tsm", n).initial_state(1, 224, 224)["shifted"] for n in ("tsm_r101", "tsm_r50"))
  assert (len(deep), len(shallow)) == (18, 16)
  assert [s.shape for s in shallow[:5]] == [(1, 56, 56, 8), *[(1, 56, 56, 32)] * 3, (1, 28, 28, 64)]
  with pytest.raises(UserError, match="cannot be streamed"):
    preset("tsm", "tsm_r50").stream({}, jnp.zeros((1, 1, 8, 8, 3)))


def test_lateral_connection_by_hand():
  """Window 5, stride 4, all ones: frames 1 to 8 become 1+2+3 around the first and 3+4+5+6+7 around the fifth."""
  fast = np.arange(1, 9, dtype=np.float32).reshape(1, 8, 1, 1, 1)
  lateral = Lateral(time=5, stride=4, ratio=2, norm=NORM)
  like = jax.eval_shape(lateral.init, jax.random.key(0), fast)
  variables = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), like)
  variables["params"]["norm"]["bias"] *= 0
  variables["batch_stats"]["norm"]["mean"] *= 0
  found = jax.jit(lateral.apply)(variables, fast)[0, :, 0, 0]
  np.testing.assert_allclose(found, [[6, 6], [25, 25]], rtol=1e-4)  # up to the norm's epsilon


def test_slowfast_channels():
  """8x8: the slow pathway gets twice the fast one's channels before each stage; 2048 + 256 come out."""
  found = shapes("slowfast", "r50_8x8")
  assert [found[f"lateral{i}/conv/kernel"] for i in (1, 2, 3, 4)] == [
    (7, 1, 1, 8, 16),
    (7, 1, 1, 32, 64),
    (7, 1, 1, 64, 128),
    (7, 1, 1, 128, 256),
  ]
  assert found["slow_stage1/block0/conv1/kernel"] == (1, 1, 1, 64 + 16, 64)
  assert found["slow_stage4/block0/conv1/kernel"] == (3, 1, 1, 1024 + 256, 512)
  assert found["fast_stage4/block2/conv3/kernel"] == (1, 1, 1, 64, 256)
  assert (found["slow_stem/conv/kernel"], found["fast_stem/conv/kernel"]) == ((1, 7, 7, 3, 64), (5, 7, 7, 3, 8))


def test_slow_pathway_sees_every_second_frame_and_the_lateral_connections():
  """alpha 2, laterals cut: frame 1 moves the fast features alone. tokens average pairs of fast frames, 4 alone."""
  module = find_module("model", "slowfast")
  model = module.Model(**module.TINY | {"depths": (1,), "times_slow": ((1,),), "times_fast": ((1,),)})
  video = clip_of(5, 8)
  changed = video.copy()
  changed[:, 1] = 0
  variables = drawn(model, video)
  run = jax.jit(functools.partial(model.apply, train=False))
  whole, other = run(variables, video), run(variables, changed)
  assert not np.allclose(whole["pooled"][:, :32], other["pooled"][:, :32])
  variables["params"]["lateral1"]["conv"]["kernel"] *= 0
  whole, other = run(variables, video), run(variables, changed)
  np.testing.assert_array_equal(whole["pooled"][:, :32], other["pooled"][:, :32])
  assert not np.allclose(whole["pooled"][:, 32:], other["pooled"][:, 32:])
  # Fast features of 5 frames: mean over frames = (2 * first pair + 2 * second pair + last) / 5.
  pairs = whole["tokens"][0, :, :, :, 32:].mean((1, 2))
  np.testing.assert_allclose((2 * pairs[0] + 2 * pairs[1] + pairs[2]) / 5, whole["pooled"][0, 32:], rtol=1e-5)


def test_slowfast_needs_a_width_that_beta_divides():
  """The message names both."""
  with pytest.raises(UserError, match="width = 20 must be a multiple of beta = 8"):
    jax.eval_shape(
      functools.partial(preset("slowfast", "r50_8x8", width=20).init, train=False),
      jax.random.key(0),
      jax.ShapeDtypeStruct((1, 4, 32, 32, 3), jnp.float32),
    )


def test_x3d_blocks():
  """54 = 2.25 x 24 channels inside, each with a window of its own; squeeze-excite to 8 in every second block."""
  found = shapes("x3d", "x3d_m")
  assert found["stage1/block0/conv2/kernel"] == (3, 3, 3, 1, 54)
  gated = sorted({path.split("/gate")[0] for path in found if path.startswith("stage2") and "/gate/" in path})
  assert gated == ["stage2/block0", "stage2/block2", "stage2/block4"]
  assert found["stage1/block0/gate/squeeze/kernel"] == (54, 8)
  assert found["stage4/block0/gate/squeeze/kernel"] == (432, 32)  # 27 is rounded up, 24 would be 11 % less
  assert found["stem/time/kernel"] == (5, 1, 1, 1, 24)
  assert found["expand/kernel"] == (432, 2048)


def test_csn_channels_meet_in_pointwise_convolutions_only():
  """The 3x3x3 windows see one channel; "preserved" has one more pointwise convolution before them."""
  reduced, preserved = shapes("csn", "ir_csn_152"), shapes("csn", "ip_csn_152")
  windows = [s for path, s in reduced.items() if path.endswith("conv2/kernel")]
  assert len(windows) == 50
  assert {s[:4] for s in windows} == {(3, 3, 3, 1)}
  more = {path: s for path, s in preserved.items() if path not in reduced and path.endswith("kernel")}
  assert len(more) == 50
  assert more["stage1/block0/mix/kernel"] == (1, 1, 1, 64, 64)


def test_c3d_joins_positions_as_a_convolution_does():
  """By hand: 1x2x2 windows of a 2x3 map of two channels are two rows of eight numbers, row by row."""
  x = np.arange(12, dtype=np.float32).reshape(1, 1, 2, 3, 2)
  found = joined(jnp.asarray(x), (1, 2, 2))
  np.testing.assert_array_equal(found[0, 0, 0], [[0, 1, 2, 3, 6, 7, 8, 9], [2, 3, 4, 5, 8, 9, 10, 11]])


def test_c3d_is_taken_at_every_place_of_a_larger_clip():
  """Twice the frames and a wider picture: 2 x 1 x 2 tokens. Frames that are too small are refused with the least."""
  model = preset("c3d", "c3d", stages=((2,), (2,), (2, 2), (2, 2), (2, 2)), hidden=(4, 6))

  def tokens(*clip: int) -> tuple[int, ...]:
    video = jax.ShapeDtypeStruct((1, *clip, 3), jnp.float32)
    out, _ = jax.eval_shape(functools.partial(model.init_with_output, train=False), jax.random.key(0), video)
    return out["tokens"].shape[1:]

  assert tokens(16, 112, 112) == (1, 1, 1, 6)
  assert tokens(32, 112, 144) == (2, 1, 2, 6)
  with pytest.raises(UserError, match="at least 1 frames of 97x97 px, not 16 of 96x112"):
    tokens(16, 112, 96)


def test_resnet3d_says_what_does_not_fit():
  """A pool over two frames needs two; stages must agree; only bottlenecks are inflated."""
  video = jax.ShapeDtypeStruct((1, 1, 16, 16, 3), jnp.float32)
  for changes, message in (
    ({}, "frame_pool=2 needs at least 2 frames, not 1"),
    ({"depths": (1,)}, "one entry per stage, not 1, 4 and 4"),
    ({"block": "basic"}, 'set block="bottleneck"'),
  ):
    init = functools.partial(preset("resnet3d", "c2d_r50", **changes).init, train=False)
    with pytest.raises(UserError, match=message):
      jax.eval_shape(init, jax.random.key(0), video)
