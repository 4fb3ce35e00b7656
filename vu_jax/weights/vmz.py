"""VMZ's networks (https://github.com/facebookresearch/VMZ, in torch): `RULES[<our model>]` for `carry`.

They are built of torchvision's blocks, and so are their names.
"""

from vu_jax.weights import torchvision
from vu_jax.weights.carry import Rule, conv, norm

_BLOCK, _PLACE = r"layer(\d)\.(\d+)\.", "backbone/stage{0}/block{1}/"

RULES: dict[str, tuple[Rule, ...]] = {
  "resnet3d": torchvision.RULES["resnet3d"],  # R(2+1)D-34 and -152
  "csn": (
    (_BLOCK + r"conv2\.0\.0", f"{_PLACE}mix", conv),
    (_BLOCK + r"conv2\.0\.1", f"{_PLACE}mix_norm", norm),
    (_BLOCK + r"conv2\.0\.2", f"{_PLACE}conv2", conv),
    *torchvision.RULES["resnet3d"],
  ),
}
