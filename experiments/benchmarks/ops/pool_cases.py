"""Pools of the models. Their work is counted as one operation per window position and output."""

import math

from experiments.benchmarks.ops.case import OpCase, Shape
from vu_jax.layers.convolution import window


def pool_case(
  name: str, op: str, x: Shape, size: Shape, strides: Shape | None = None, padding: Shape = (0, 0, 0)
) -> OpCase:
  """A pool of `x` (channels last); the strides are the window where left out."""
  arguments = {"window": size, "strides": strides or size, "padding": padding}
  pads = window.resolve(x[1:-1], size, arguments["strides"], padding)
  outputs = window.output_size(x[1:-1], size, arguments["strides"], pads)
  return OpCase(name, "pool", op, {"x": x}, arguments, x[0] * x[-1] * math.prod(outputs) * math.prod(size))


POOLS = (
  pool_case("max 3x3x3", "max_pool", (2, 8, 28, 28, 192), (3, 3, 3), (1, 1, 1), (1, 1, 1)),
  pool_case("s3d mixed 5b max 3x3x3", "max_pool", (2, 2, 7, 7, 832), (3, 3, 3), (1, 1, 1), (1, 1, 1)),
  pool_case("s3d max 1x3x3 /1,2,2", "max_pool", (1, 8, 112, 112, 64), (1, 3, 3), (1, 2, 2), (0, 1, 1)),
  pool_case("s3d max 3x3x3 /2", "max_pool", (1, 8, 28, 28, 480), (3, 3, 3), (2, 2, 2), (1, 1, 1)),
  pool_case("s3d max 2x2x2 /2", "max_pool", (2, 4, 14, 14, 832), (2, 2, 2)),
  pool_case("c3d max 1x2x2 /1,2,2", "max_pool", (1, 16, 56, 56, 64), (1, 2, 2)),
  pool_case("s3d head average 2x7x7", "avg_pool", (2, 8, 7, 7, 1024), (2, 7, 7), (1, 1, 1)),
  pool_case("average 1x2x2 /1,2,2", "avg_pool", (1, 8, 56, 56, 128), (1, 2, 2)),
)
