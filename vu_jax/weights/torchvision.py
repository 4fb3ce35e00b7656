"""torchvision's networks (https://github.com/pytorch/vision): `RULES[<our model>]` for `carry`."""

import re
from collections.abc import Mapping, Sequence

from vu_jax.weights.carry import Leaves, Placed, Rule, conv, dense, norm, pointwise, skip, value


def _everywhere(places: Mapping[str, str], parts: Sequence[Rule]) -> tuple[Rule, ...]:
  """The rules `parts` for every module of `places`: its name there -> its path below our backbone."""
  return tuple(
    (rf"{re.escape(there)}\.{part}", f"backbone/{here}/{place}", kind)
    for there, here in places.items()
    for part, place, kind in parts
  )


def _conv_of_frames(leaves: Leaves) -> Placed:
  """weight (D C h w) -> kernel (1 h w C D)."""
  return conv({**leaves, "weight": leaves["weight"][:, :, None]})


_UNITS = ("point", "narrow_three", "three", "narrow_five", "five", "pool")
_MIXED = [f"trunk/mixed_{name}" for name in ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c")]


def _inception(stem: Sequence[str], blocks: Sequence[str], branches: Sequence[str]) -> dict[str, str]:
  """Names there -> ours, of the three units before the mixed blocks, and of the units of those."""
  ours = dict(zip(stem, ("trunk/stem", "trunk/point", "trunk/three"), strict=True))
  for there, here in zip(blocks, _MIXED, strict=True):
    ours |= {f"{there}.{branch}": f"{here}/{unit}" for branch, unit in zip(branches, _UNITS, strict=True)}
  return ours


_S3D = _inception(
  stem=("features.0", "features.2", "features.3"),
  blocks=[f"features.{n}" for n in (5, 6, 8, 9, 10, 11, 12, 14, 15)],
  branches=("branch0", "branch1.0", "branch1.1", "branch2.0", "branch2.1", "branch3.1"),
)
_GOOGLENET = _inception(
  stem=("conv1", "conv2", "conv3"),
  blocks=[f"inception{name}" for name in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")],
  branches=("branch1", "branch2.0", "branch2.1", "branch3.0", "branch3.1", "branch4.1"),
)
_S3D_PARTS: tuple[Rule, ...] = (
  (r"0\.0", "conv/spatial", conv),
  (r"0\.1", "conv/norm", norm),
  (r"1\.0", "conv/temporal", conv),
  (r"1\.1", "norm", norm),
  ("0", "conv", conv),
  ("1", "norm", norm),
)
_GOOGLENET_PARTS: tuple[Rule, ...] = (("conv", "conv", _conv_of_frames), ("bn", "norm", norm))

_BLOCK, _PLACE = r"layer(\d)\.(\d+)\.", "stage{0}/block{1}/"
_RESNET: tuple[Rule, ...] = (
  ("conv1", "backbone/trunk/stem/conv", _conv_of_frames),
  ("bn1", "backbone/trunk/stem/norm", norm),
  (_BLOCK + r"conv(\d)", f"backbone/trunk/{_PLACE}conv{{2}}", _conv_of_frames),
  (_BLOCK + r"bn(\d)", f"backbone/trunk/{_PLACE}norm{{2}}", norm),
  (_BLOCK + r"downsample\.0", f"backbone/trunk/{_PLACE}shortcut", _conv_of_frames),
  (_BLOCK + r"downsample\.1", f"backbone/trunk/{_PLACE}shortcut_norm", norm),
  ("fc", "head/logits", dense),
)
_RESNET3D: tuple[Rule, ...] = (
  (r"stem\.0", "backbone/stem/conv", conv),
  (r"stem\.1", "backbone/stem/norm", norm),
  (r"stem\.3", "backbone/stem/time", conv),
  (r"stem\.4", "backbone/stem/time_norm", norm),
  (_BLOCK + r"conv(\d)\.0\.0", f"backbone/{_PLACE}conv{{2}}/spatial", conv),
  (_BLOCK + r"conv(\d)\.0\.1", f"backbone/{_PLACE}conv{{2}}/norm", norm),
  (_BLOCK + r"conv(\d)\.0\.3", f"backbone/{_PLACE}conv{{2}}/temporal", conv),
  (_BLOCK + r"conv(\d)\.0", f"backbone/{_PLACE}conv{{2}}", conv),
  (_BLOCK + r"conv(\d)\.1", f"backbone/{_PLACE}norm{{2}}", norm),
  (_BLOCK + r"downsample\.0", f"backbone/{_PLACE}shortcut", conv),
  (_BLOCK + r"downsample\.1", f"backbone/{_PLACE}shortcut_norm", norm),
  ("fc", "head/logits", dense),
)

_MVIT_BLOCK, _MVIT_PLACE = r"blocks\.(\d+)\.", "backbone/block{0}/"
_MVIT: tuple[Rule, ...] = (
  ("conv_proj", "backbone/embed", conv),
  (r"pos_encoding\.class_token", "backbone/class_token/token", value),
  (r"pos_encoding\.class_pos", "backbone/class_token/position", value),
  (r"pos_encoding\.spatial_pos", "backbone/positions/space", value),
  (r"pos_encoding\.temporal_pos", "backbone/positions/time", value),
  (_MVIT_BLOCK + "norm1", f"{_MVIT_PLACE}attention_norm", norm),
  (_MVIT_BLOCK + r"attn\.qkv", f"{_MVIT_PLACE}attention/qkv", dense),
  (_MVIT_BLOCK + r"attn\.pool_(.)\.pool", f"{_MVIT_PLACE}attention/pool_{{1}}", conv),
  (_MVIT_BLOCK + r"attn\.pool_(.)\.norm_act\.0", f"{_MVIT_PLACE}attention/norm_{{1}}", norm),
  (_MVIT_BLOCK + r"attn\.rel_pos_(.)", f"{_MVIT_PLACE}attention/positions/rel_pos_{{1}}", value),
  (_MVIT_BLOCK + r"attn\.project\.0", f"{_MVIT_PLACE}attention/out", dense),
  (_MVIT_BLOCK + "norm2", f"{_MVIT_PLACE}mlp_norm", norm),
  (_MVIT_BLOCK + r"mlp\.0", f"{_MVIT_PLACE}mlp/up", dense),
  (_MVIT_BLOCK + r"mlp\.3", f"{_MVIT_PLACE}mlp/down", dense),
  (_MVIT_BLOCK + "project", f"{_MVIT_PLACE}widen", dense),
  ("norm", "backbone/norm", norm),
  (r"head\.1", "head/logits", dense),
)

RULES: dict[str, tuple[Rule, ...]] = {
  "resnet": _RESNET,
  "tsm": _RESNET,  # a shift has no parameters
  "resnet3d": _RESNET3D,  # R3D, MC3 and R(2+1)D
  "s3d": (*_everywhere(_S3D, _S3D_PARTS), (r"classifier\.1", "head/logits", pointwise)),
  "mvit": _MVIT,
  "inception": (
    *_everywhere(_GOOGLENET, _GOOGLENET_PARTS),
    ("aux[12]", "", skip),
    ("fc", "head/logits", dense),
  ),
}
