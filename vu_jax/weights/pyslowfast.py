"""PySlowFast's networks (https://github.com/facebookresearch/SlowFast): `RULES[<our model>]` for `carry`."""

from collections.abc import Mapping

from vu_jax.weights.carry import Rule, conv, dense, norm, pointwise

_STAGES = range(1, 5)  # res2 to res5 there


def _blocks(theirs: str, ours: str) -> tuple[Rule, ...]:
  """Rules for the bottlenecks of one pathway in all stages; `ours` is the beginning of a stage's name here."""
  rules: list[Rule] = []
  for stage in _STAGES:
    there, here = rf"s{stage + 1}\.{theirs}_res(\d+)\.", f"backbone/{ours}{stage}/block{{0}}/"
    rules += [(there + "branch1_bn", f"{here}shortcut_norm", norm), (there + "branch1", f"{here}shortcut", conv)]
    rules += [(rf"{there}branch2\.{a}_bn", f"{here}norm{i}", norm) for i, a in enumerate("abc", 1)]
    rules += [(rf"{there}branch2\.{a}", f"{here}conv{i}", conv) for i, a in enumerate("abc", 1)]
    rules += [(rf"{there}branch2\.se\.fc{i}", f"{here}gate/{w}", pointwise) for i, w in ((1, "squeeze"), (2, "expand"))]
  return tuple(rules)


def _stem(theirs: str, ours: str, convolutions: Mapping[str, str]) -> tuple[Rule, ...]:
  """Rules for a stem: its convolutions' names there -> here, and its norm."""
  named = ((rf"s1\.{theirs}_stem\.{there}", f"backbone/{ours}/{here}", conv) for there, here in convolutions.items())
  return (*named, (rf"s1\.{theirs}_stem\.bn", f"backbone/{ours}/norm", norm))


_SLOW, _FAST = "pathway0", "pathway1"
_LATERAL: tuple[Rule, ...] = tuple(
  (rf"s{i}_fuse\.{there}", f"backbone/lateral{i}/{here}", kind)
  for i in _STAGES
  for there, here, kind in (("conv_f2s", "conv", conv), ("bn", "norm", norm))
)
_HEAD: Rule = (r"head\.projection", "head/logits", dense)

RULES: dict[str, tuple[Rule, ...]] = {
  "resnet3d": (*_stem(_SLOW, "stem", {"conv": "conv"}), *_blocks(_SLOW, "stage"), _HEAD),  # Slow, I3D and C2D
  "slowfast": (
    *_stem(_SLOW, "slow_stem", {"conv": "conv"}),
    *_stem(_FAST, "fast_stem", {"conv": "conv"}),
    *_blocks(_SLOW, "slow_stage"),
    *_blocks(_FAST, "fast_stage"),
    *_LATERAL,
    _HEAD,
  ),
  "x3d": (
    *_stem(_SLOW, "stem", {"conv_xy": "space", "conv": "time"}),
    *_blocks(_SLOW, "stage"),
    (r"head\.conv_5_bn", "backbone/norm5", norm),
    (r"head\.conv_5", "backbone/conv5", conv),
    (r"head\.lin_5", "backbone/expand", pointwise),
    _HEAD,
  ),
}
