"""The suite "models": every preset on the clip that it was published for, forward and one step of training.

Ours and the peer have the same weights and get the same clips. Training is forward, cross-entropy, backward and an
update by plain SGD, batch norm in training mode, no dropout.
"""

import functools
import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmarks.models import torch_models
from experiments.benchmarks.models.cases import KINDS, ModelCase
from experiments.benchmarks.models.torch_models import CLASSES
from experiments.benchmarks.timing import AbsentError, Contender, Options, Pass, Row, jax_contender
from experiments.running.assemble import with_preset
from vu_jax.build import build
from vu_jax.config import find_module
from vu_jax.cost import forward_flops
from vu_jax.net import Net, normalize
from vu_jax.tasks.classify import Head
from vu_jax.weights.carry import carry

CLIPS = 1
PASSES: tuple[Pass, ...] = ("forward", "train")
FLOPS = {"forward": 1, "train": 3}  # in forward passes
TOLERANCE = {"float32": 5e-3, "bfloat16": 1e-1}
RATE = 1e-12  # the update costs what it costs, and yet all calls start from the same weights


def cases(options: Options) -> list[Row]:
  """All rows: every preset, in every dtype, forward and a training step."""
  return [
    Row(
      name=case.name,
      kind=kind,
      pass_=pass_,
      dtype=dtype,
      shapes={"clips": clips_shape(case)},
      flops=partial(flops, case, pass_),
      tolerance=TOLERANCE[dtype],
      contenders=partial(contenders, case, pass_, dtype, options),
      peers=(case.package or "torch",),
    )
    for kind, members in KINDS.items()
    for case in members
    for dtype in options.dtypes
    for pass_ in PASSES
  ]


def contenders(case: ModelCase, pass_: Pass, dtype: str, options: Options) -> Mapping[str, Callable[[], Contender]]:
  """Ours, and the peer with the same weights."""
  return {
    "ours": partial(ours, case, pass_, dtype),
    case.package or "torch": lambda: torch_models.contender(case, pass_, dtype, options.torch_compile, clips(case)[1]),
  }


def flops(case: ModelCase, pass_: Pass) -> float:
  """Of the pass over all clips; a multiply-add is two."""
  net, variables = network(case, "float32"), shapes(case)
  video = jax.ShapeDtypeStruct(clips_shape(case), jnp.uint8)
  count = forward_flops(lambda v, x: net.apply(v, {"video": x}, train=False), variables, video)
  return float(FLOPS[pass_] * count)


def clips_shape(case: ModelCase) -> tuple[int, ...]:
  return (CLIPS, *case.clip, case.channels)


def clips(case: ModelCase) -> tuple[np.ndarray, np.ndarray]:
  """Random pixels, and the same as the normalised floats that peers take."""
  pixels = np.random.default_rng(0).integers(0, 256, clips_shape(case), np.uint8)
  net = network(case, "float32")
  return pixels, np.array(normalize(jnp.asarray(pixels), net.mean, net.std))


def network(case: ModelCase, dtype: str) -> Net:
  """The preset with a linear classifier."""
  module = find_module("model", case.model)
  section = {"dtype": dtype} | ({"preset": case.preset} if case.preset else {})
  backbone = build(module.Model, with_preset(section, getattr(module, "PRESETS", {})), "model")
  return Net(backbone, Head(CLASSES), mean=(0.5,) * case.channels, std=(0.25,) * case.channels)


def shapes(case: ModelCase) -> Any:
  """Shapes of all parameters and stored statistics."""
  net, video = network(case, "float32"), jax.ShapeDtypeStruct(clips_shape(case), jnp.uint8)
  return jax.eval_shape(lambda x: net.init(jax.random.key(0), {"video": x}, train=False), video)


@functools.lru_cache(maxsize=1)
def weights(case: ModelCase) -> Any:
  """The peer's, carried over; where there is no peer, normal numbers of the usual scale."""
  try:
    peer = torch_models.make(case)
  except AbsentError:
    return jax.tree_util.tree_map_with_path(_drawn, shapes(case))
  rules = importlib.import_module(f"vu_jax.weights.{case.package}").RULES[case.model]
  return carry(torch_models.parameters(peer), rules, shapes(case))


def _drawn(path: Any, leaf: Any) -> np.ndarray:
  if path[-1].key in ("scale", "var"):
    return np.ones(leaf.shape, np.float32)
  fan_in = int(np.prod(leaf.shape[:-1])) if leaf.ndim > 1 else 0
  noise = np.random.default_rng(0).standard_normal(leaf.shape, np.float32)
  return noise * np.float32(fan_in**-0.5 if fan_in else 0)


def ours(case: ModelCase, pass_: Pass, dtype: str) -> Contender:
  """The jitted forward pass or training step."""
  net, labels = network(case, dtype), jnp.zeros(CLIPS, jnp.int32)

  def forward(variables: Any, video: jax.Array) -> Any:
    out: Any = net.apply(variables, {"video": video}, train=False)
    return out["logits"]

  def step(variables: Any, video: jax.Array) -> Any:
    params, stored = variables["params"], {k: v for k, v in variables.items() if k != "params"}

    def loss(params: Any) -> Any:
      rngs = {"dropout": jax.random.key(0)}
      out, changed = net.apply({"params": params, **stored}, {"video": video}, train=True, mutable=[*stored], rngs=rngs)
      nats = optax.softmax_cross_entropy_with_integer_labels(out["logits"], labels).mean()
      return nats, (out["logits"], changed)

    (nats, (logits, changed)), grads = jax.value_and_grad(loss, has_aux=True)(params)
    updated = jax.tree.map(lambda p, g: p - RATE * g, params, grads)
    return {"seen": (nats, logits, optax.global_norm(grads)), "state": (updated, changed)}

  arrays = (jax.tree.map(jnp.asarray, weights(case)), jnp.asarray(clips(case)[0]))
  if pass_ == "forward":
    return jax_contender(forward, arrays)
  found = jax_contender(step, arrays)
  return replace(found, read=lambda result: found.read(result["seen"]))
