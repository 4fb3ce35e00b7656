"""What all recurrent layers do with a cell: run it over a clip, hold the state at padded frames, zone out.

Time is first in here, (T B ...): the loop then reads and writes whole slices, and (time x batch) merge for free.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from vu_jax.glossary import known
from vu_jax.layers.recurrence import hoist

State = Any


def cell_params(layer: nn.Module, name: str, cell: nn.Module, state: State, inputs: Any) -> Any:
  """The parameters of an unbound cell, owned by the layer under `name`. Call it inside a compact method.

  Args:
    state: before the first step.
    inputs: of all steps, time first.
  """
  first = jax.tree.map(lambda x: jnp.zeros(x.shape[1:], x.dtype), inputs)
  return layer.param(name, lambda key: cell.init(key, state, first)["params"])


def over_time(
  cell: nn.Module,
  params: Any,
  state: State,
  inputs: Any,
  mask: Shaped[Array, "T B"] | None = None,
  keep: State | None = None,
  unroll: int = 1,
  remat: bool = False,
  reverse: bool = False,
) -> tuple[State, Any]:
  """Runs the cell over a clip.

  Args:
    cell: unbound, `cell(state, input) -> (state, extras)`; `state.hidden` is its output.
    inputs: of all steps, time first.
    mask: True at real frames. At the others the state is held, and output and extras are zero.
    keep: shaped like the state, time first: the fraction 0..1 of each unit that keeps its old value (zoneout).
    unroll: steps per loop iteration.
    remat: recompute the steps in the backward pass.
    reverse: run from the last frame to the first.

  Returns:
    The final state, and (output, extras) of all steps.
  """
  unroll = min(unroll, jax.tree.leaves(inputs)[0].shape[0])
  return hoist.scan(_step, cell, params, state, (inputs, mask, keep), unroll, remat, reverse)


def _step(cell: nn.Module, state: State, xs: Any) -> tuple[State, Any]:
  inputs, real, keep = xs
  new, extras = cell(state, inputs)
  if keep is not None:
    new = jax.tree.map(lambda k, old, n: n + k.astype(n.dtype) * (old - n), keep, state, new)
  if real is None:
    return new, (new.hidden, extras)
  new = jax.tree.map(lambda n, old: _where(real, n, old), new, state)
  return new, jax.tree.map(lambda y: _where(real, y, jnp.zeros_like(y)), (new.hidden, extras))


def _where(real: Shaped[Array, " B"], a: Array, b: Array) -> Array:
  return jnp.where(real.reshape(-1, *[1] * (a.ndim - 1)), a, b)


UNROLLED_STEPS = {"cpu": 16}
"""Clips of maps up to this length are computed without a loop: 1.1 to 1.3 times faster, twice the time to compile.

A loop copies each step's slices of what it reads and stores; several steps per iteration are no faster than one. That
other backends do not need it is a guess which nobody has measured.
"""


def unrolled(steps: int, maps: bool) -> int:
  """Steps per loop iteration: all of a short clip of maps, else 1."""
  return steps if maps and steps <= UNROLLED_STEPS.get(jax.default_backend(), 0) else 1


def zoneout_keep(rates: State, state: State, steps: int, key: Array | None) -> State:
  """The fractions kept, for all steps: random bits when there is a key (training), else the rates themselves.

  Args:
    rates: one number per array of the state, 0..1.
    key: None outside of training, where each unit takes the expectation.

  Source: Krueger et al. 2017, "Zoneout", section 3.3 and equation 5.
  """
  leaves, tree = jax.tree.flatten(state)
  flat_rates = jax.tree.leaves(rates)
  if key is None:
    kept = [
      jnp.full((steps, *[1] * leaf.ndim), rate, leaf.dtype) for leaf, rate in zip(leaves, flat_rates, strict=True)
    ]
  else:
    keys = jax.random.split(key, len(leaves))
    draws = zip(keys, leaves, flat_rates, strict=True)
    kept = [jax.random.bernoulli(k, rate, (steps, *leaf.shape)) for k, leaf, rate in draws]
  return jax.tree.unflatten(tree, kept)


def check_clip(layer: nn.Module, x: Array, mask: Array | None, rank: int) -> None:
  """Raises ValueError when the clip does not have the rank, or the mask not its (B T)."""
  name, wanted = type(layer).__name__, {3: "(B T C)", 5: "(B T h w C)"}[rank]
  if x.ndim != rank:
    raise ValueError(f"{name} takes {wanted}, {rank} axes; this input has {x.ndim}: {tuple(x.shape)}")
  if x.shape[1] < 1:
    raise ValueError(f"{name} needs clips of at least 1 frame, not {x.shape[1]}")
  if mask is not None and mask.shape != x.shape[:2]:
    raise ValueError(f"{name}: mask {tuple(mask.shape)} must be (B T), here {tuple(x.shape[:2])}")


def check_fields(layer: nn.Module) -> None:
  """Raises ValueError when a count of the layer is below 1 or a rate outside of 0 <= rate < 1."""
  name = type(layer).__name__
  for field in ("features", "layers", "kernel", "attention", "unroll"):
    value = getattr(layer, field, None)
    if value is not None and value < 1:
      raise ValueError(f"{name}: {field}={value} must be at least 1")
  for field in ("dropout", "zoneout", "zoneout_memory"):
    rate = getattr(layer, field, 0)
    if known(rate) and not 0 <= rate < 1:
      raise ValueError(f"{name}: {field}={rate} must be at least 0 and below 1")


def check_state(state: State, zero: State) -> None:
  """Raises ValueError, with both sides, when the state does not have the structure and shapes of `zero`."""
  given, wanted = (jax.tree.map(lambda a: tuple(a.shape), s) for s in (state, zero))
  if given != wanted:
    raise ValueError(f"state of shapes {given}, this input needs {wanted}; start from zero_state")


def masked(x: Float[Array, "T B *grid C"], mask: Shaped[Array, "T B"] | None) -> Float[Array, "T B *grid C"]:
  """The input with zeros at padded frames, whatever they held (NaN would survive in the gradient of a choice)."""
  return x if mask is None else jnp.where(mask.reshape(*mask.shape, *[1] * (x.ndim - 2)), x, 0)
