"""Which parameters decay, which learn slower or faster, and which not at all: rules over their paths.

A path is the names from the root of the tree, joined by slashes: "backbone/block3/attention/qkv/kernel".
"""

import difflib
import math
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

import jax

from vu_jax.errors import UserError
from vu_jax.train.optim_options import Optim

Tree: TypeAlias = Any  # of parameters, or of one value for each; parts may be masked out
Layer: TypeAlias = tuple[int, ...] | str  # numbers of a layer; "embedding", "last" or "head"

# Parameters that have two or more dimensions and are no kernels: the tables of `positions.py` (joint, space, time) and
# of relative positions, class and mask tokens, and the biases and scales of heads or of scanned layers.
_NO_KERNEL = re.compile(r"(^|/)(bias|scale|joint|space|time|table|[^/]*(token|position|pos_emb|rel_pos)[^/]*)$")
_NUMBERED = re.compile(r"(block|layer|stage|res)s?_?(\d+)$")
_EMBEDDING = re.compile(r"embed|stem|patch|tubelet|position|token")


def by_path(rule: Callable[[str, Any], Any], params: Tree) -> Tree:
  """The tree of `rule(path, parameter)`."""
  join = jax.tree_util.keystr
  return jax.tree_util.tree_map_with_path(lambda keys, p: rule(join(keys, simple=True, separator="/"), p), params)


def matches(path: str, pattern: str) -> bool:
  """Whether the path is the pattern or lies below it: "head" matches "head/bias", not "header/bias"."""
  return fnmatchcase(path, pattern) or fnmatchcase(path, f"{pattern}/*")


def is_any(path: str, patterns: tuple[str, ...]) -> bool:
  return any(matches(path, pattern) for pattern in patterns)


def decayed(params: Tree, options: Optim = Optim()) -> Tree:
  """True where weights decay: kernels of layers; not biases, norms, positions and tokens, unless "all" are to."""
  every, exceptions = options.decay_on == "all", options.no_decay
  return by_path(lambda path, p: (every or _is_kernel(path, p)) and not is_any(path, exceptions), params)


def _is_kernel(path: str, p: Any) -> bool:
  return p.ndim > 1 and not _NO_KERNEL.search(path)


def frozen(params: Tree, options: Optim) -> Tree:
  """True where parameters stay as they are."""
  return by_path(lambda path, _: is_any(path, options.frozen), params)


def hidden_kernels(params: Tree) -> Tree:
  """True for the matrices between features of the backbone: those that muon makes orthogonal.

  Convolutions count as the matrix from all that one output sees to the outputs. Not so the embedding, the head, and
  depthwise kernels (one input channel per group), which mix no features.
  """
  return by_path(lambda path, p: _mixes_features(path, p) and _layer(path) not in ("head", "embedding"), params)


def _mixes_features(path: str, p: Any) -> bool:
  return path.endswith("kernel") and p.ndim > 1 and p.shape[-2] > 1


def place(path: str) -> tuple[int, ...] | None:
  """The numbers of the layer that a parameter belongs to: (3,) in "block3", (1, 0) in "stage1/block0".

  Names that end in block, layer, stage or res and a number count, also "encoder_blocks_3"; inside of a layer or stage
  only blocks count, and inside of a block nothing. None: in no such layer.
  """
  numbers: list[int] = []
  for name in path.split("/"):
    found = _NUMBERED.search(name)
    if found and (not numbers or found[1] == "block"):
      numbers.append(int(found[2]))
      if found[1] == "block":
        break
  return tuple(numbers) or None


def rates(params: Tree, options: Optim) -> Tree:
  """The factor of the learning rate for each parameter: layer_decay^(layers between it and the head) x its scale.

  Of n numbered layers the last has layer_decay^1, the first layer_decay^n, the embedding (names with "embed", "stem",
  "patch", "tubelet", "position" or "token" outside of numbered layers) layer_decay^(n + 1). The head has 1, and so has
  what else is outside of them, such as a last norm. Layers of parallel branches with the same number are equally deep.

  Source: the code of BEiT (Bao et al. 2022) and VideoMAE (Tong et al. 2022).
  """
  behind = _layers_behind(params)
  return by_path(lambda path, _: options.layer_decay ** behind[_layer(path)] * _scale(path, options), params)


def _scale(path: str, options: Optim) -> float:
  return next((factor for pattern, factor in reversed(options.lr_scale) if matches(path, pattern)), 1.0)


def _layer(path: str) -> Layer:
  if path.startswith("head/"):
    return "head"
  return place(path) or ("embedding" if _EMBEDDING.search(path) else "last")


def _layers_behind(params: Tree) -> dict[Layer, int]:
  """How many steps a layer of the backbone is away from the head."""
  numbered = {layer for path in paths(params) if isinstance(layer := _layer(path), tuple)}
  behind: dict[Layer, int] = {layer: n for n, layer in enumerate(sorted(numbered, reverse=True), start=1)}
  return behind | {"embedding": len(numbered) + 1, "last": 0, "head": 0}


def paths(params: Tree) -> list[str]:
  return jax.tree.leaves(by_path(lambda path, _: path, params))


def check_groups(params: Tree, options: Optim) -> None:
  """Compares the options with the parameters of a network, or with their shapes.

  Raises:
    UserError: a pattern that matches no parameter, layer-wise rates for a network without numbered layers, or nothing
      that is left to train.
  """
  known = paths(params)
  if not known:
    return  # `optax.tree.map_params` asks for the state of a placeholder
  scaled = tuple(pattern for pattern, _ in options.lr_scale)
  for key, patterns in (("frozen", options.frozen), ("lr_scale", scaled), ("no_decay", options.no_decay)):
    for pattern in patterns:
      if not any(matches(path, pattern) for path in known):
        raise UserError(f'config.optim.{key}: no parameter is called "{pattern}"; {_nearest(pattern, known)}')
  if options.layer_decay < 1 and not any(isinstance(_layer(path), tuple) for path in known):
    raise UserError(
      f"config.optim.layer_decay = {options.layer_decay}: this model has no layers called block0, layer1, stage2, ...; "
      f"set it to 1"
    )
  if all(is_any(path, options.frozen) for path in known):
    raise UserError(f"config.optim.frozen = {options.frozen}: freezes all parameters; leave some to train")


def _nearest(pattern: str, known: list[str]) -> str:
  """The names, of parameters or of what holds them, that are most like the pattern; else the outermost ones."""
  names = {"/".join(path.split("/")[:depth]): depth for path in known for depth in range(1, path.count("/") + 2)}
  near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.5)
  return "there are " + ", ".join(near or sorted(name for name, depth in names.items() if depth <= 2)[:12])


@dataclass(frozen=True)
class Group:
  """Parameters that are updated alike.

  rate: factor of the learning rate, 0 = frozen. decayed: whether weights decay. paths: of the parameters, in order.
  values: number of trained values.
  """

  rate: float
  decayed: bool
  paths: tuple[str, ...]
  values: int


def groups(params: Tree, options: Optim) -> list[Group]:
  """All parameters (or their shapes) by rate, highest first, decayed before undecayed, frozen last."""
  found: dict[tuple[float, bool], list[tuple[str, int]]] = defaultdict(list)
  still, decays = frozen(params, options), decayed(params, options)
  rows = (paths(params), *map(jax.tree.leaves, (params, rates(params, options), decays, still)))
  for path, p, rate, decay, stays in zip(*rows, strict=True):
    key = (0.0, False) if stays else (rate, decay and options.weight_decay > 0)
    found[key].append((path, math.prod(p.shape)))
  return [
    Group(rate, decay, tuple(path for path, _ in members), sum(size for _, size in members))
    for (rate, decay), members in sorted(found.items(), reverse=True)
  ]


def describe(params: Tree, options: Optim) -> str:
  """One line, such as "1,234,567 values decay, 8,901 do not, 456 are frozen; rates x 0.0238 to x 1 (14)"."""
  found = groups(params, options)
  trained = [group for group in found if group.rate]
  counts = {
    "decay": sum(group.values for group in trained if group.decayed),
    "do not": sum(group.values for group in trained if not group.decayed),
    "are frozen": sum(group.values for group in found if not group.rate),
  }
  line = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count or what == "decay")
  factors = sorted({group.rate for group in trained})
  if len(factors) == 1:
    return line.replace(" ", " values ", 1)
  return line.replace(" ", " values ", 1) + f"; rates x {factors[0]:.3g} to x {factors[-1]:.3g} ({len(factors)})"
