"""PredRNN: stacked spatio-temporal LSTMs whose second memory zigzags through layers and time.

Source: Wang et al. 2017, "PredRNN: Recurrent Neural Networks for Predictive Learning using Spatiotemporal LSTMs".
"""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float, Shaped

from vu_jax.layers.dense import add_bias
from vu_jax.layers.precision import Dtype
from vu_jax.layers.recurrence.cells import LSTMState, lstm_hidden, lstm_memory, norm
from vu_jax.layers.recurrence.decoupling import Decoupling, increment
from vu_jax.layers.recurrence.hoist import RecurrentMap
from vu_jax.layers.recurrence.input_map import InputMap
from vu_jax.layers.recurrence.over_time import cell_params, check_clip, check_fields, check_state, masked, over_time

Map = Float[Array, "B h w D"]
Extras = dict[str, Array] | None


class PredRNNState(NamedTuple):
  """hidden and memory of each layer, and the memory M that the top layer left: all (B h w D)."""

  layers: tuple[LSTMState, ...]
  zigzag: Array

  @property
  def hidden(self) -> Array:
    """The output: hidden state of the top layer."""
    return self.layers[-1].hidden


class SpatioTemporalCell(nn.Module):
  """One layer and step: C from the step before, M from the layer below; h' = o tanh(W_1x1 [C', M']).

  Gates of the input, in this order: i, f, g of C; i, f, g of M; o. The last output are the increments of C and M, what
  their input gates let in.
  Source: Wang et al. 2017, equation 3. Differs from the paper: `forget_bias` (as in the authors' code), `layer_norm`
  over the channels of each position, where their code takes the whole map.
  """

  features: int
  kernel_size: tuple[int, ...]
  hidden_scale: float
  forget_bias: float
  layer_norm: bool
  dtype: Dtype

  @nn.compact
  def __call__(
    self, state: LSTMState, zigzag: Map, gates: Float[Array, "B h w G"]
  ) -> tuple[LSTMState, Map, tuple[Map, Map]]:
    i, f, g, zigzag_i, zigzag_f, zigzag_g, o = jnp.split(gates, 7, axis=-1)
    own_i, own_f, own_g, own_o = jnp.split(self._map("hidden", state.hidden, 4), 4, axis=-1)
    i, f, g = i + own_i, f + own_f, g + own_g
    memory = lstm_memory(state.memory, i, f, g, self.forget_bias)
    own_i, own_f, own_g = jnp.split(self._map("zigzag", zigzag, 3), 3, axis=-1)
    zigzag_i, zigzag_f, zigzag_g = zigzag_i + own_i, zigzag_f + own_f, zigzag_g + own_g
    zigzag = lstm_memory(zigzag, zigzag_i, zigzag_f, zigzag_g, self.forget_bias)
    both = jnp.concatenate([memory, zigzag], axis=-1)
    o = o + own_o + self._map("output", both, 1)
    shown = RecurrentMap(self.features, (1, 1), dtype=self.dtype, name="last")(both)
    return LSTMState(lstm_hidden(shown, o), memory), zigzag, (increment(i, g), increment(zigzag_i, zigzag_g))

  def _map(self, name: str, x: Array, gates: int) -> Array:
    width = gates * self.features
    y = RecurrentMap(width, self.kernel_size, self.hidden_scale, self.dtype, name=name)(x)
    return norm(y, [width], f"{name}_norm", self.dtype) if self.layer_norm else y


class PredRNNCell(nn.Module):
  """One step of all layers; M enters the lowest from the top layer of the step before.

  Layers above the lowest read the hidden state of the one below of the same step, so their input convolutions stay
  in the loop (their weight gradients do not). With `decouple`, extras are {"decoupling": (B)}, else None.
  """

  features: int
  layers: int
  kernel_size: tuple[int, ...]
  hidden_scale: float
  forget_bias: float
  layer_norm: bool
  dtype: Dtype
  use_bias: bool = True
  decouple: bool = False

  @nn.compact
  def __call__(self, state: PredRNNState, gates: Float[Array, "B h w G"]) -> tuple[PredRNNState, Extras]:
    options = (self.hidden_scale, self.forget_bias, self.layer_norm, self.dtype)
    zigzag = state.zigzag
    states: list[LSTMState] = []
    increments: list[tuple[Map, Map]] = []
    for k, old in enumerate(state.layers):
      gates = self._input(k, states[-1].hidden) if k else gates
      layer = SpatioTemporalCell(self.features, self.kernel_size, *options, name=f"layer{k}")
      new, zigzag, grown = layer(old, zigzag, gates)
      states.append(new)
      increments.append(grown)
    extras = {"decoupling": Decoupling(self.dtype, name="decoupling")(increments)} if self.decouple else None
    return PredRNNState(tuple(states), zigzag), extras

  def _input(self, k: int, x: Array) -> Array:
    width = 7 * self.features
    y = RecurrentMap(width, self.kernel_size, dtype=self.dtype, name=f"input{k}")(x)
    if self.layer_norm:
      return norm(y, [width], f"input{k}_norm", self.dtype)
    return add_bias(self, y, f"input{k}_bias") if self.use_bias else y


class PredRNN(nn.Module):
  """Stacked spatio-temporal LSTMs over a clip: `(B T h w C) -> (B T h w D)` and the final state.

  Fields:
    features: channels D of hidden states and memories.
    layers: stacked, at least 1.
    kernel: side of the convolutions [positions].
    forget_bias: added to both forget gates.
    layer_norm: of what each convolution adds to the gates.
    hidden_scale: of the orthogonal kernels at the start.
    remat: recompute each step in the backward pass: less memory, more time.
    unroll: steps per loop iteration.
    dtype: of the computation and of the state; parameters are float32.
  """

  features: int
  layers: int = 4
  kernel: int = 5
  forget_bias: float = 1.0
  layer_norm: bool = False
  hidden_scale: float = 1.0
  remat: bool = False
  unroll: int = 1
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(
    self, x: Float[Array, "B T h w C"], state: PredRNNState | None = None, *, mask: Shaped[Array, "..."] | None = None
  ) -> tuple[Float[Array, "B T h w D"], PredRNNState]:
    """Runs over a clip; arguments and errors as in `recurrent.Recurrent`."""
    check_clip(self, x, mask, 5)
    check_fields(self)
    zero = self.zero_state(x.shape[0], *x.shape[2:4])
    state = zero if state is None else state
    check_state(state, zero)
    real = None if mask is None else rearrange(mask.astype(bool), "b t -> t b")
    x = masked(rearrange(x, "b t h w c -> t b h w c"), real)
    size, width = (self.kernel, self.kernel), 7 * self.features
    gates = InputMap(width, size, (width,) if self.layer_norm else (), self.dtype, name="input")(x)
    options = (self.hidden_scale, self.forget_bias, self.layer_norm, self.dtype)
    cell = PredRNNCell(self.features, self.layers, size, *options, parent=None)
    params = cell_params(self, "cell", cell, state, gates)
    state, (hidden, _) = over_time(cell, params, state, gates, real, None, self.unroll, self.remat)
    return rearrange(hidden, "t b h w d -> b t h w d"), state

  @nn.nowrap
  def zero_state(self, batch: int, height: int, width: int) -> PredRNNState:
    """The state before the first frame."""
    zeros = jnp.zeros((batch, height, width, self.features), self.dtype)
    return PredRNNState((LSTMState(zeros, zeros),) * self.layers, zeros)
