"""Recurrent cells: one step in time, for vectors (B D) and for maps (B h w D) alike.

`cell(state, gates) -> (state, extras)`: `gates` are the pre-activations that the input contributes, computed for all
frames at once by the layer (`recurrent.py`); the cell adds what the state contributes. `state.hidden` is the output;
`extras` is what a layer returns besides it, or None. Everything linear in the state is a `RecurrentMap`.
"""

import functools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vu_jax.layers.dense import add_bias
from vu_jax.layers.layer_norm import LayerNorm
from vu_jax.layers.precision import Dtype, multiply
from vu_jax.layers.recurrence.hoist import RecurrentMap

Peephole = Literal["none", "channel", "position"]


class HiddenState(NamedTuple):
  """State of RNN and GRU: hidden (B D) or (B h w D)."""

  hidden: Any


class LSTMState(NamedTuple):
  """State of the LSTMs: hidden and memory, both (B D) or (B h w D)."""

  hidden: Any
  memory: Any


class RNNCell(nn.Module):
  """h' = activation(gates + W h).

  Source: Elman 1990. With `layer_norm`, `gates + LN(W h)`; Ba et al. 2016 (equation 4) normalise the sum instead.
  """

  features: int
  kernel_size: tuple[int, ...] = ()
  hidden_scale: float = 1.0
  activation: Literal["tanh", "relu"] = "tanh"
  layer_norm: bool = False
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, state: HiddenState, gates: Float[Array, "B *grid D"]) -> tuple[HiddenState, None]:
    own = RecurrentMap(self.features, self.kernel_size, self.hidden_scale, self.dtype, name="hidden")(state.hidden)
    own = norm(own, [self.features], "hidden_norm", self.dtype) if self.layer_norm else own
    return HiddenState({"tanh": jnp.tanh, "relu": nn.relu}[self.activation](gates + own)), None


class LSTMCell(nn.Module):
  """i, f, g, o = gates + W h; c' = sigmoid(f + forget_bias) c + sigmoid(i) tanh(g); h' = sigmoid(o) tanh(c').

  Source: Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000; on maps Shi et al. 2015, equation 3;
  `layer_norm` Ba et al. 2016, equations 20-22 (the four gates of W h together; tanh(LN(c')) in the output).
  Differs from the papers: on maps, each position is normalised over its channels.

  Fields:
    peephole: the gates also see the memory, i and f the old one, o the new one: with one weight per "channel", or per
      "position" and channel as in Shi et al. (the frame size is then fixed), or "none".
  """

  features: int
  kernel_size: tuple[int, ...] = ()
  hidden_scale: float = 1.0
  forget_bias: float = 1.0
  peephole: Peephole = "none"
  layer_norm: bool = False
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, state: LSTMState, gates: Float[Array, "B *grid G"]) -> tuple[LSTMState, None]:
    own = RecurrentMap(4 * self.features, self.kernel_size, self.hidden_scale, self.dtype, name="hidden")(state.hidden)
    own = norm(own, [4 * self.features], "hidden_norm", self.dtype) if self.layer_norm else own
    i, f, g, o = jnp.split(gates + own, 4, axis=-1)
    if self.peephole == "none":
      memory = lstm_memory(state.memory, i, f, g, self.forget_bias)
    else:
      shape = (3, *(state.memory.shape[1:] if self.peephole == "position" else (self.features,)))
      see_i, see_f, see_o = self.param("peephole", nn.initializers.zeros, shape)
      i, f = (gate + multiply(state.memory, see) for gate, see in ((i, see_i), (f, see_f)))
      memory = lstm_memory(state.memory, i, f, g, self.forget_bias)
      o = o + multiply(memory, see_o)
    shown = norm(memory, [self.features], "memory_norm", self.dtype) if self.layer_norm else memory
    return LSTMState(lstm_hidden(shown, o), memory), None


Units = Float[Array, "B *grid D"]


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def lstm_memory(memory: Units, i: Units, f: Units, g: Units, forget_bias: float) -> Units:
  """c' = sigmoid(f + forget_bias) c + sigmoid(i) tanh(g).

  The gradient is written out because a loop stores what it needs for every step: four arrays here, seven by autodiff.
  """
  return _lstm_memory(memory, i, f, g, forget_bias)[0]


def _lstm_memory(memory, i, f, g, forget_bias):
  i, f, g = nn.sigmoid(i), nn.sigmoid(f + forget_bias), jnp.tanh(g)
  return f * memory + i * g, (memory, i, f, g)


def _lstm_memory_backward(_, saved, d):
  memory, i, f, g = saved
  return d * f, d * g * i * (1 - i), d * memory * f * (1 - f), d * i * (1 - g * g)


lstm_memory.defvjp(_lstm_memory, _lstm_memory_backward)


@jax.custom_vjp
def lstm_hidden(memory: Units, o: Units) -> Units:
  """h' = sigmoid(o) tanh(c'). The gradient is written out for the same reason."""
  return _lstm_hidden(memory, o)[0]


def _lstm_hidden(memory, o):
  o, shown = nn.sigmoid(o), jnp.tanh(memory)
  return o * shown, (o, shown)


def _lstm_hidden_backward(saved, d):
  o, shown = saved
  return d * o * (1 - shown * shown), d * shown * o * (1 - o)


lstm_hidden.defvjp(_lstm_hidden, _lstm_hidden_backward)


class GRUCell(nn.Module):
  """r, z = sigmoid(gates + W h); n = tanh(gate + r (W h + b)); h' = (1 - z) n + z h. Gates in the order r, z, n.

  Source: Cho et al. 2014 in the variant of cuDNN and torch, whose weights fit: the reset gate acts after the product.
  Differs from the paper: there, it acts before (`ConvGRUCell`).
  `layer_norm`: Ba et al. 2016, supplement equations 23-25 (r and z together, n alone; LN's own bias replaces b).
  """

  features: int
  hidden_scale: float = 1.0
  layer_norm: bool = False
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, state: HiddenState, gates: Float[Array, "B G"]) -> tuple[HiddenState, None]:
    own = RecurrentMap(3 * self.features, (), self.hidden_scale, self.dtype, name="hidden")(state.hidden)
    if self.layer_norm:
      own = norm(own, [2 * self.features, self.features], "hidden_norm", self.dtype)
    r, z, n = jnp.split(gates, 3, axis=-1)
    own_r, own_z, own_n = jnp.split(own, 3, axis=-1)
    if not self.layer_norm:
      own_n = add_bias(self, own_n)
    n = jnp.tanh(n + nn.sigmoid(r + own_r) * own_n)
    return HiddenState(n + nn.sigmoid(z + own_z) * (state.hidden - n)), None


class ConvGRUCell(nn.Module):
  """r, z = sigmoid(gates + U * h); n = tanh(gate + V * (r h)); h' = (1 - z) h + z n. Gates in the order r, z, n.

  Source: Ballas et al. 2016, "Delving Deeper into Convolutional Networks for Learning Video Representations",
  equations 5-8: the reset gate acts before the convolution.
  """

  features: int
  kernel_size: tuple[int, ...] = (3, 3)
  hidden_scale: float = 1.0
  layer_norm: bool = False
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, state: HiddenState, gates: Float[Array, "B h w G"]) -> tuple[HiddenState, None]:
    options = (self.kernel_size, self.hidden_scale, self.dtype)
    own = RecurrentMap(2 * self.features, *options, name="hidden")(state.hidden)
    own = norm(own, [2 * self.features], "hidden_norm", self.dtype) if self.layer_norm else own
    r, z, n = jnp.split(gates, 3, axis=-1)
    own_r, own_z = jnp.split(own, 2, axis=-1)
    own_n = RecurrentMap(self.features, *options, name="candidate")(nn.sigmoid(r + own_r) * state.hidden)
    own_n = norm(own_n, [self.features], "candidate_norm", self.dtype) if self.layer_norm else own_n
    n = jnp.tanh(n + own_n)
    return HiddenState(state.hidden + nn.sigmoid(z + own_z) * (n - state.hidden)), None


def norm(x: Float[Array, "*batch G"], sizes: Sequence[int], name: str, dtype: Dtype) -> Float[Array, "*batch G"]:
  """Layer norm over each of the groups of `sizes` channels; statistics are float32. Call it inside a compact method."""
  parts = jnp.split(x, np.cumsum(sizes)[:-1], axis=-1)
  names = [name] if len(parts) == 1 else [f"{name}{k}" for k in range(len(parts))]
  return jnp.concatenate([LayerNorm(1e-5, dtype, name=n)(p) for n, p in zip(names, parts, strict=True)], axis=-1)
