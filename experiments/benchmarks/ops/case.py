"""The ops that are measured, as data: every shape of the models, and how much work it is.

The tables are in `conv_cases.py`, `pool_cases.py` and `sequence_cases.py`; `suite.CASES` joins them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from vu_jax.layers.convolution import window

Shape: TypeAlias = tuple[int, ...]
Kind: TypeAlias = Literal[
  "convolution", "pointwise and temporal", "depthwise and grouped", "transposed", "pool", "recurrence", "transformer"
]


@dataclass(frozen=True)
class OpCase:
  """One op on one set of shapes.

  Fields:
    name: of the case: where it comes from, then what it does.
    op: key into `jax_ops.OPS` and `torch_ops.OPS`.
    inputs: name -> shape of every array that the op takes, parameters too; the gradient is taken in all of them.
    arguments: the op's other keyword arguments.
    flops: of the forward pass; a multiply-add is two.
  """

  name: str
  kind: Kind
  op: str
  inputs: dict[str, Shape]
  arguments: dict[str, Any] = field(default_factory=dict)
  flops: float = 0.0


def conv_case(
  name: str,
  kind: Kind,
  x: Shape,
  kernel: Shape,
  features: int,
  strides: Shape | None = None,
  padding: Sequence[int] | Sequence[tuple[int, int]] | None = None,
  dilation: Shape | None = None,
  groups: int = 1,
) -> OpCase:
  """A convolution of `x` (channels last) with `kernel` positions; padding is (k - 1) / 2 where left out."""
  axes = len(kernel)
  strides, dilation = strides or (1,) * axes, dilation or (1,) * axes
  padding = padding or tuple(k // 2 for k in kernel)
  inputs = {"x": x, "kernel": (*kernel, x[-1] // groups, features)}
  pads = window.resolve(x[1:-1], kernel, strides, padding, dilation)
  outputs = window.output_size(x[1:-1], kernel, strides, pads, dilation)
  flops = 2 * x[0] * math.prod(outputs) * math.prod(inputs["kernel"])
  arguments = {"strides": strides, "padding": padding, "dilation": dilation, "groups": groups}
  return OpCase(name, kind, f"conv{axes}d", inputs, arguments, flops)
