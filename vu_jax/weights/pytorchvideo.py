"""PyTorchVideo's networks (https://github.com/facebookresearch/pytorchvideo): `RULES[<our model>]` for `carry`.

Its X3D has no batch norm after the first shortcut, which PySlowFast's and ours have: give it one beforehand.
"""

from vu_jax.weights.carry import Rule, conv, dense, norm, pointwise


def _blocks(theirs: str, ours: str) -> tuple[Rule, ...]:
  """Rules for the bottlenecks of one pathway in all stages; `ours` is the beginning of a stage's name here."""
  there, here = rf"blocks\.(\d)\.{theirs}res_blocks\.(\d+)\.", f"backbone/{ours}{{0}}/block{{1}}/"
  part = there + r"branch2\."
  return (
    (there + "branch1_conv", f"{here}shortcut", conv),
    (there + "branch1_norm", f"{here}shortcut_norm", norm),
    (part + r"norm_b\.1\.block\.0", f"{here}gate/squeeze", pointwise),
    (part + r"norm_b\.1\.block\.2", f"{here}gate/expand", pointwise),
    *((part + f"conv_{a}", f"{here}conv{i}", conv) for i, a in enumerate("abc", 1)),
    *((part + rf"norm_{a}(?:\.0)?", f"{here}norm{i}", norm) for i, a in enumerate("abc", 1)),
  )


def _stem(theirs: str, ours: str) -> tuple[Rule, ...]:
  there = rf"blocks\.0\.{theirs}"
  return ((there + "conv", f"backbone/{ours}/conv", conv), (there + "norm", f"backbone/{ours}/norm", norm))


_SLOW, _FAST = r"multipathway_blocks\.0\.", r"multipathway_blocks\.1\."
_HEAD: Rule = (r"blocks\.\d\.proj", "head/logits", dense)
_RESNET: tuple[Rule, ...] = (*_stem("", "stem"), *_blocks("", "stage"), _HEAD)
_LATERAL: tuple[Rule, ...] = tuple(
  (rf"blocks\.{i}\.multipathway_fusion\.{there}", f"backbone/lateral{i + 1}/{here}", kind)
  for i in range(4)
  for there, here, kind in (("conv_fast_to_slow", "conv", conv), ("norm", "norm", norm))
)

RULES: dict[str, tuple[Rule, ...]] = {
  "resnet3d": _RESNET,  # Slow
  "csn": _RESNET,  # channel-separated with reduced interactions
  "slowfast": (
    *_stem(_SLOW, "slow_stem"),
    *_stem(_FAST, "fast_stem"),
    *_blocks(_SLOW, "slow_stage"),
    *_blocks(_FAST, "fast_stage"),
    *_LATERAL,
    _HEAD,
  ),
  "x3d": (
    (r"blocks\.0\.conv\.conv_t", "backbone/stem/space", conv),  # its names of these two are exchanged
    (r"blocks\.0\.conv\.conv_xy", "backbone/stem/time", conv),
    (r"blocks\.0\.norm", "backbone/stem/norm", norm),
    *_blocks("", "stage"),
    (r"blocks\.5\.pool\.pre_conv", "backbone/conv5", conv),
    (r"blocks\.5\.pool\.pre_norm", "backbone/norm5", norm),
    (r"blocks\.5\.pool\.post_conv", "backbone/expand", pointwise),
    _HEAD,
  ),
}
