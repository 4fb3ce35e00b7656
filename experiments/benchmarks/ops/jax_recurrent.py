"""Recurrences in JAX: our layers on given parameters, and plain scans that do everything inside of the loop."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from vu_jax.layers.recurrence.predrnn import PredRNN


def ours(layer: Any, **fields: Any) -> Callable[..., Array]:
  """The outputs of a layer of `vu_jax.layers.recurrence.recurrent`."""

  def run(x: Array, input_kernel: Array, input_bias: Array, hidden_kernel: Array, **more: Array) -> Array:
    cell: dict[str, Any] = {"hidden": {"kernel": hidden_kernel}}
    if "candidate_kernel" in more:
      cell["candidate"] = {"kernel": more["candidate_kernel"]}
    if "hidden_bias" in more:
      cell["bias"] = more["hidden_bias"]
    params = {"forward0_input": {"kernel": input_kernel, "bias": input_bias}, "forward0_cell": cell}
    size = {"kernel": hidden_kernel.shape[0]} if hidden_kernel.ndim == 4 else {}
    module = layer(hidden_kernel.shape[-2], dtype=x.dtype.name, **size, **fields)
    return module.apply({"params": params}, x)[0]

  return run


def _map(x: Array, kernel: Array) -> Array:
  if kernel.ndim == 2:
    return x @ kernel
  return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _scan(step: Callable, x: Array, hidden_kernel: Array, states: int, output: int = 0) -> Array:
  """Scans over the frames from a state of zeros; a step returns the new state, one part of which is the output."""
  zeros = jnp.zeros((x.shape[0], *x.shape[2:-1], hidden_kernel.shape[-2]), x.dtype)

  def body(state: tuple[Array, ...], frame: Array) -> tuple[tuple[Array, ...], Array]:
    state = step(state, frame)
    return state, state[output]

  return jnp.moveaxis(jax.lax.scan(body, (zeros,) * states, jnp.moveaxis(x, 1, 0))[1], 0, 1)


def plain_rnn(x: Array, input_kernel: Array, input_bias: Array, hidden_kernel: Array) -> Array:
  def step(state, frame):
    return (jnp.tanh(_map(frame, input_kernel) + input_bias + _map(state[0], hidden_kernel)),)

  return _scan(step, x, hidden_kernel, 1)


def plain_lstm(x: Array, input_kernel: Array, input_bias: Array, hidden_kernel: Array) -> Array:
  def step(state, frame):
    gates = _map(frame, input_kernel) + input_bias + _map(state[0], hidden_kernel)
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    memory = nn.sigmoid(f) * state[1] + nn.sigmoid(i) * jnp.tanh(g)
    return nn.sigmoid(o) * jnp.tanh(memory), memory

  return _scan(step, x, hidden_kernel, 2)


def plain_gru(x: Array, input_kernel: Array, input_bias: Array, hidden_kernel: Array, hidden_bias: Array) -> Array:
  def step(state, frame):
    r, z, n = jnp.split(_map(frame, input_kernel) + input_bias, 3, axis=-1)
    own_r, own_z, own_n = jnp.split(_map(state[0], hidden_kernel), 3, axis=-1)
    new = jnp.tanh(n + nn.sigmoid(r + own_r) * (own_n + hidden_bias))
    update = nn.sigmoid(z + own_z)
    return ((1 - update) * new + update * state[0],)

  return _scan(step, x, hidden_kernel, 1)


def plain_conv_gru(
  x: Array, input_kernel: Array, input_bias: Array, hidden_kernel: Array, candidate_kernel: Array
) -> Array:
  def step(state, frame):
    r, z, n = jnp.split(_map(frame, input_kernel) + input_bias, 3, axis=-1)
    own_r, own_z = jnp.split(_map(state[0], hidden_kernel), 2, axis=-1)
    new = jnp.tanh(n + _map(nn.sigmoid(r + own_r) * state[0], candidate_kernel))
    update = nn.sigmoid(z + own_z)
    return ((1 - update) * state[0] + update * new,)

  return _scan(step, x, hidden_kernel, 1)


def predrnn(x: Array, **params: Array) -> Array:
  """Our PredRNN; `params` as in `sequence_cases`."""
  layers = sum(name.endswith("_last") for name in params)
  cell: dict[str, Any] = {}
  for k in range(layers):
    cell[f"layer{k}"] = {n: {"kernel": params[f"layer{k}_{n}"]} for n in ("hidden", "zigzag", "output", "last")}
    if k:
      cell[f"input{k}"] = {"kernel": params[f"layer{k}_input"]}
      cell[f"input{k}_bias"] = params[f"layer{k}_bias"]
  tree = {"input": {"kernel": params["layer0_input"], "bias": params["layer0_bias"]}, "cell": cell}
  hidden = params["layer0_hidden"].shape
  layer: Any = PredRNN
  return layer(hidden[2], layers, hidden[0], dtype=x.dtype.name).apply({"params": tree}, x)[0]


def plain_predrnn(x: Array, **params: Array) -> Array:
  """The same, with the input convolution of every layer inside of the scan."""
  layers = sum(name.endswith("_last") for name in params)

  def step(state, frame):
    hidden, memory, zigzag = state[0::2][:layers], state[1::2][:layers], state[-1]
    new = []
    for k in range(layers):
      own = {name: params[f"layer{k}_{name}"] for name in ("input", "bias", "hidden", "zigzag", "output", "last")}
      i, f, g, zi, zf, zg, o = jnp.split(_map(frame, own["input"]) + own["bias"], 7, axis=-1)
      hi, hf, hg, ho = jnp.split(_map(hidden[k], own["hidden"]), 4, axis=-1)
      c = nn.sigmoid(f + hf + 1) * memory[k] + nn.sigmoid(i + hi) * jnp.tanh(g + hg)
      mi, mf, mg = jnp.split(_map(zigzag, own["zigzag"]), 3, axis=-1)
      zigzag = nn.sigmoid(zf + mf + 1) * zigzag + nn.sigmoid(zi + mi) * jnp.tanh(zg + mg)
      both = jnp.concatenate([c, zigzag], axis=-1)
      frame = nn.sigmoid(o + ho + _map(both, own["output"])) * jnp.tanh(_map(both, own["last"]))
      new += [frame, c]
    return (*new, zigzag)

  return _scan(step, x, params["layer0_hidden"], 2 * layers + 1, output=2 * layers - 2)
