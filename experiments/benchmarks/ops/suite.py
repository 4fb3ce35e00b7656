"""The suite "ops": every op of the models at their shapes, forward and with gradients, ours, plain XLA and torch."""

import math
import operator
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.ops import jax_ops, torch_ops
from experiments.benchmarks.ops.case import OpCase
from experiments.benchmarks.ops.conv_cases import CONVOLUTIONS, GROUPED, POINTWISE, TRANSPOSED
from experiments.benchmarks.ops.pool_cases import POOLS
from experiments.benchmarks.ops.sequence_cases import RECURRENT, TRANSFORMER
from experiments.benchmarks.timing import Contender, Options, Pass, Row, jax_contender

CASES: tuple[OpCase, ...] = (
  *CONVOLUTIONS,
  *POINTWISE,
  *GROUPED,
  *TRANSPOSED,
  *POOLS,
  *RECURRENT,
  *TRANSFORMER,
)

PASSES: tuple[Pass, ...] = ("forward", "gradient")
FLOPS = {"forward": 1, "gradient": 3}  # in forward passes; the gradient row runs the forward pass too
TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2}
DATA = ("x", "q", "k", "v")  # inputs that are no parameters


def cases(options: Options) -> list[Row]:
  """All rows: every case, in every dtype, in both passes."""
  return [
    Row(
      name=case.name,
      kind=case.kind,
      pass_=pass_,
      dtype=dtype,
      shapes=case.inputs,
      flops=partial(operator.mul, case.flops, FLOPS[pass_]),
      tolerance=TOLERANCE[dtype],
      contenders=partial(contenders, case, pass_, dtype, options),
    )
    for case in CASES
    for dtype in options.dtypes
    for pass_ in PASSES
  ]


def contenders(case: OpCase, pass_: Pass, dtype: str, options: Options) -> Mapping[str, Callable[[], Contender]]:
  """Ours, plain XLA, torch and, where asked for, the lowerings that ours did not choose; all on the same numbers."""
  op, inputs = jax_ops.OPS[case.op], numbers(case)
  cotangent = draw(output_shape(case, op.plain), 1.0, len(inputs))
  chosen = op.choose(case)
  make = partial(in_jax, case, pass_, dtype, inputs, cotangent)
  found: dict[str, Callable[[], Contender]] = {
    "ours": partial(make, op.ours, chosen),
    "xla": partial(make, op.plain, ""),
    "torch": partial(torch_ops.contender, case, pass_, dtype, inputs, cotangent, options.torch_compile),
  }
  if options.lowerings:
    others = [name for name in op.lowerings(case) if name != chosen]
    found |= {f"lowering {name}": partial(make, partial(op.ours, lowering=name), name) for name in others}
  return found


def numbers(case: OpCase) -> dict[str, np.ndarray]:
  """The inputs: standard normal data, and parameters that keep its scale."""
  scales = {name: 1.0 if name in DATA else math.prod(shape[:-1]) ** -0.5 for name, shape in case.inputs.items()}
  return {name: draw(shape, scales[name], i) for i, (name, shape) in enumerate(case.inputs.items())}


def draw(shape: tuple[int, ...], scale: float, seed: int) -> np.ndarray:
  """Fixed normal numbers."""
  return np.random.default_rng(seed).standard_normal(shape, np.float32) * np.float32(scale)


def output_shape(case: OpCase, function: Callable[..., Any]) -> tuple[int, ...]:
  """Shape of a form's output."""
  inputs = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in case.inputs.items()}
  return jax.eval_shape(lambda inputs: function(**inputs, **case.arguments), inputs).shape


def in_jax(
  case: OpCase,
  pass_: Pass,
  dtype: str,
  inputs: dict[str, np.ndarray],
  cotangent: np.ndarray,
  function: Callable[..., jax.Array],
  form: str,
) -> Contender:
  """One form in JAX: the output, and for the gradient also the cotangents of all inputs."""

  def forward(inputs: dict[str, jax.Array]) -> jax.Array:
    return function(**inputs, **case.arguments)

  def gradient(inputs: dict[str, jax.Array], cotangent: jax.Array) -> Any:
    output, pull = jax.vjp(forward, inputs)
    return output, pull(cotangent)

  arrays = {name: jnp.asarray(value, dtype) for name, value in inputs.items()}
  if pass_ == "forward":
    return jax_contender(forward, (arrays,), form)
  return jax_contender(gradient, (arrays, jnp.asarray(cotangent, dtype)), form)
