"""Groups of parameters by their paths: what decays, at which share of the rate each learns, what is frozen."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vu_jax.build import build
from vu_jax.errors import UserError
from vu_jax.layers.attention.positions import LearnedPositions
from vu_jax.layers.attention.window_attention import RelativeBias
from vu_jax.train.optim_options import Optim
from vu_jax.train.param_groups import (
  check_groups,
  decayed,
  describe,
  groups,
  hidden_kernels,
  matches,
  paths,
  place,
  rates,
)


def tree(shapes: dict[str, tuple[int, ...]]) -> Any:
  """Shapes of parameters, nested by the slashes of their paths."""
  root: dict[str, Any] = {}
  for path, shape in shapes.items():
    *parents, name = path.split("/")
    node = root
    for parent in parents:
      node = node.setdefault(parent, {})
    node[name] = jax.ShapeDtypeStruct(shape, jnp.float32)
  return root


def by_path(values: Any) -> dict[str, Any]:
  return dict(zip(paths(values), jax.tree.leaves(values), strict=True))


VIT = tree(
  {
    "backbone/embed/kernel": (2, 4, 4, 3, 8),
    "backbone/embed/bias": (8,),
    "backbone/positions/joint": (6, 8),
    "backbone/class_token": (1, 1, 8),
    "backbone/block0/attention/qkv/kernel": (8, 24),
    "backbone/block0/attention/qkv/bias": (24,),
    "backbone/block1/attention/qkv/kernel": (8, 24),
    "backbone/block1/mlp/layer_0/kernel": (8, 8),
    "backbone/block10/norm/scale": (8,),
    "backbone/norm/scale": (8,),
    "head/logits/kernel": (8, 5),
    "head/logits/bias": (5,),
  }
)
RESNET = tree(
  {
    "backbone/stem/conv/kernel": (1, 7, 7, 3, 8),
    "backbone/layer1/block0/conv/kernel": (3, 3, 3, 8, 8),
    "backbone/layer1/block1/conv/kernel": (3, 3, 3, 8, 8),
    "backbone/layer2/block0/conv/kernel": (3, 3, 3, 8, 8),
    "backbone/layer2/block0/depthwise/kernel": (3, 3, 3, 1, 8),
    "head/logits/kernel": (8, 5),
  }
)


def test_tables_and_tokens_do_not_decay():
  """Kernels decay; not vectors, nor positions and class tokens, although these have two and three dimensions."""
  found = {path for path, decays in by_path(decayed(VIT)).items() if decays}
  assert found == {path for path in paths(VIT) if path.endswith("kernel")}


def test_tables_of_the_layers_do_not_decay():
  """Positions of every form and relative biases, as the layers call them."""
  key, grid = jax.random.key(0), jnp.zeros((1, 2, 2, 2, 4))
  layers = ((LearnedPositions(), grid), (LearnedPositions("separable"), grid), (RelativeBias((1, 2, 2), 2), (1, 2, 2)))
  tables = [jax.eval_shape(lambda layer=layer, x=x: layer.init(key, x))["params"] for layer, x in layers]
  assert by_path(decayed(tables)) == dict.fromkeys(("0/joint", "1/space", "1/time", "2/table"), False)


def test_vectors_of_many_layers_do_not_decay():
  """Biases and scales that a scan stacks have two dimensions, and are biases and scales still."""
  found = by_path(decayed(tree({"layers/kernel": (3, 8, 8), "layers/bias": (3, 8), "layers/scale": (3, 8)})))
  assert found == {"layers/kernel": True, "layers/bias": False, "layers/scale": False}


def test_recipes_may_decay_all_or_all_but_norms():
  """torchvision's video recipes decay every parameter, SlowFast's all but norms."""
  assert all(by_path(decayed(VIT, Optim(decay_on="all"))).values())
  slowfast = by_path(decayed(VIT, Optim(decay_on="all", no_decay=("*/norm",))))
  assert [path for path, decays in slowfast.items() if not decays] == [
    "backbone/block10/norm/scale",
    "backbone/norm/scale",
  ]


@pytest.mark.parametrize(
  ("path", "pattern", "wanted"),
  [
    ("head/logits/bias", "head", True),
    ("head/logits/bias", "head/logits", True),
    ("head/logits/bias", "head/logits/bias", True),
    ("header/bias", "head", False),
    ("backbone/head/bias", "head", False),
    ("backbone/block1/bias", "backbone/block", False),
    ("backbone/block10/bias", "backbone/block1", False),
    ("backbone/block10/bias", "backbone/block1*", True),
    ("backbone/block10/bias", "*/bias", True),
    ("backbone/bias/table", "*/bias", True),
    ("backbone/block10/bias_table", "*/bias", False),
  ],
)
def test_patterns_end_at_slashes(path: str, pattern: str, wanted: bool):
  """A pattern is a whole path or the whole beginning of one; a star stands for any text."""
  assert matches(path, pattern) == wanted


@pytest.mark.parametrize(
  ("path", "wanted"),
  [
    ("backbone/block3/attention/qkv/kernel", (3,)),
    ("backbone/encoder/encoderblock_11/LayerNorm_0/scale", (11,)),
    ("backbone/blocks_2/mlp/layer_1/kernel", (2,)),
    ("backbone/stage1/block0/conv2/kernel", (1, 0)),
    ("backbone/slow_res4/block2/conv2/kernel", (4, 2)),
    ("backbone/layer4/conv/kernel", (4,)),
    ("backbone/layer2/mixer/layer_7/kernel", (2,)),
    ("backbone/norm1/scale", None),
    ("backbone/layer_norm/scale", None),
  ],
)
def test_places_are_read_from_names(path: str, wanted: tuple[int, ...] | None):
  """Blocks of transformers, blocks within stages of CNNs; numbers of other things do not count."""
  assert place(path) == wanted


def test_layer_decay_by_hand():
  """Three blocks at 1/2: the last has 1/2, the first 1/8, embedding, positions and token 1/16; last norm and head 1."""
  found = by_path(rates(VIT, Optim(layer_decay=0.5)))
  assert found == {
    "backbone/embed/kernel": 1 / 16,
    "backbone/embed/bias": 1 / 16,
    "backbone/positions/joint": 1 / 16,
    "backbone/class_token": 1 / 16,
    "backbone/block0/attention/qkv/kernel": 1 / 8,
    "backbone/block0/attention/qkv/bias": 1 / 8,
    "backbone/block1/attention/qkv/kernel": 1 / 4,
    "backbone/block1/mlp/layer_0/kernel": 1 / 4,
    "backbone/block10/norm/scale": 1 / 2,
    "backbone/norm/scale": 1,
    "head/logits/kernel": 1,
    "head/logits/bias": 1,
  }


def test_twelve_blocks_have_the_rates_of_videomae():
  """Its code, layer l of 14 (embedding 0, blocks 1 to 12, head 13): 0.75^(13 - l)."""
  names = {f"backbone/block{i}/kernel": (2, 2) for i in range(12)}
  found = by_path(
    rates(tree({"backbone/embed/kernel": (2, 2), **names, "head/kernel": (2, 2)}), Optim(layer_decay=0.75))
  )
  wanted = {"backbone/embed/kernel": 0.75**13, "head/kernel": 1.0}
  wanted |= {f"backbone/block{i}/kernel": 0.75 ** (13 - (i + 1)) for i in range(12)}
  assert found == pytest.approx(wanted)


def test_layer_decay_counts_blocks_through_the_stages_of_a_cnn():
  """layer1/block0, layer1/block1, layer2/block0: three layers, the stem before them."""
  found = by_path(rates(RESNET, Optim(layer_decay=0.5)))
  assert list(found.values()) == [1 / 8, 1 / 4, 1 / 2, 1 / 2, 1 / 16, 1]


def test_scales_multiply_and_the_last_match_counts():
  """TSM's new classifier: kernel x 5, bias x 10; the rest of a group that is named before keeps its factor."""
  options = Optim(layer_decay=0.5, lr_scale=(("backbone", 0.1), ("head", 5.0), ("head/logits/bias", 10.0)))
  found = by_path(rates(VIT, options))
  assert found["head/logits/kernel"] == 5
  assert found["head/logits/bias"] == 10
  assert found["backbone/norm/scale"] == pytest.approx(0.1)
  assert found["backbone/block1/attention/qkv/kernel"] == pytest.approx(0.025)


def test_muon_takes_kernels_between_features():
  """Not the stem or embedding, which read pixels, nor the head, nor depthwise kernels."""
  assert [path for path, hidden in by_path(hidden_kernels(RESNET)).items() if hidden] == [
    "backbone/layer1/block0/conv/kernel",
    "backbone/layer1/block1/conv/kernel",
    "backbone/layer2/block0/conv/kernel",
  ]
  assert sum(by_path(hidden_kernels(VIT)).values()) == 3


@pytest.mark.parametrize(
  ("options", "words"),
  [
    ({"frozen": ("backbone/steam",)}, r'config\.optim\.frozen: .* "backbone/steam"; there are backbone/stem'),
    ({"lr_scale": (("haed", 2.0),)}, r'config\.optim\.lr_scale: .* "haed"; there are head'),
    ({"no_decay": ("*/gamma",)}, r'config\.optim\.no_decay: .* "\*/gamma"; there are backbone, backbone/layer1'),
    ({"frozen": ("*",)}, r"config\.optim\.frozen = \('\*',\): freezes all parameters"),
  ],
)
def test_patterns_that_match_nothing_are_refused(options: dict[str, Any], words: str):
  """The message gives the names that are nearest."""
  with pytest.raises(UserError, match=words):
    check_groups(RESNET, Optim(**options))


def test_layer_decay_needs_numbered_layers():
  """A network of which no depth can be read says so."""
  plain = tree({"backbone/mixed_3b/kernel": (2, 2), "head/block0/kernel": (2, 2)})
  with pytest.raises(UserError, match=r"config\.optim\.layer_decay = 0\.5: .* block0"):
    check_groups(plain, Optim(layer_decay=0.5))
  check_groups(plain, Optim())


def test_every_parameter_is_in_one_group():
  """Groups are sorted by rate, the decayed first and the frozen last; their values add up."""
  options = Optim(lr_scale=(("head", 10.0),), frozen=("backbone/embed",))
  found = groups(VIT, options)
  assert [(g.rate, g.decayed, g.values) for g in found] == [
    (10.0, True, 40),
    (10.0, False, 5),
    (1.0, True, 2 * 8 * 24 + 64),
    (1.0, False, 48 + 8 + 24 + 8 + 8),
    (0.0, False, 2 * 4 * 4 * 3 * 8 + 8),
  ]
  assert sorted(path for g in found for path in g.paths) == sorted(paths(VIT))
  assert describe(VIT, options) == "488 values decay, 101 do not, 776 are frozen; rates x 1 to x 10 (2)"
  assert describe(VIT, Optim(weight_decay=0.0)) == "0 values decay, 1,365 do not"


def test_options_come_from_configs_and_their_json():
  """Lists, as JSON has them, become the nested tuples; numbers out of range and wrong types are refused."""
  options = build(Optim, {"lr_scale": [["head", 10]], "frozen": ["backbone/stem"], "milestones": [0.5]}, "config.optim")
  assert options == Optim(lr_scale=(("head", 10.0),), frozen=("backbone/stem",), milestones=(0.5,))
  for wrong in ({"layer_decay": 0.0}, {"b2": 1.0}, {"lr_scale": [["head", 0.0]]}, {"nesterov": 1}, {"method": "adamx"}):
    with pytest.raises(UserError, match=f"config.optim.{next(iter(wrong))}"):
      build(Optim, wrong, "config.optim")


def test_arrays_and_shapes_give_the_same_groups():
  """The rules read paths and shapes only, so groups can be shown before parameters are made."""
  arrays = jax.tree.map(lambda s: np.zeros(s.shape, np.float32), VIT)
  options = Optim(layer_decay=0.75)
  assert groups(arrays, options) == groups(VIT, options)
