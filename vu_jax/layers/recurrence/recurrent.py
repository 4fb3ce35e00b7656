"""Recurrent layers over clips: RNN, LSTM, GRU on vectors, ConvLSTM, ConvGRU on maps.

A layer is a pure cell (`cells.py`) lifted over time, layer by layer over the whole clip. What does not depend on the
recurrence is outside of the loop: the input maps of all frames are one matmul or convolution over (time x batch)
before it, the weight gradients one after it (`hoist.py`), random numbers are drawn before it.
"""

from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float, Shaped

from vu_jax.layers.drop import Dropout
from vu_jax.layers.precision import Dtype
from vu_jax.layers.recurrence.cells import ConvGRUCell, GRUCell, HiddenState, LSTMCell, LSTMState, Peephole, RNNCell
from vu_jax.layers.recurrence.input_map import InputMap
from vu_jax.layers.recurrence.over_time import (
  cell_params,
  check_clip,
  check_fields,
  check_state,
  masked,
  over_time,
  unrolled,
  zoneout_keep,
)

States = tuple[Any, ...]


class Recurrent(nn.Module):
  """What the layers have in common: `(B T ... C) -> (B T ... D)` and the final state.

  Fields:
    features: channels D of hidden state and output, per direction.
    layers: stacked; each reads the outputs of the one before.
    bidirectional: a second cell per layer runs backwards in time; outputs are concatenated, (B T ... 2 D).
    dropout: of the outputs between layers, 0..1 (training only).
    zoneout: probability 0..1 that a hidden unit keeps its old value (Krueger et al. 2017); evaluation takes the mean.
    layer_norm: of the pre-activations, those of the input and of the state apart (Ba et al. 2016).
    hidden_scale: of the orthogonal hidden-to-hidden kernels at the start.
    remat: recompute each step in the backward pass: less memory, more time.
    unroll: steps per loop iteration; None leaves it to `over_time.unrolled`.
    dtype: of the computation and of the state; parameters are float32.
  """

  features: int
  layers: int = 1
  bidirectional: bool = False
  dropout: float = 0.0
  zoneout: float = 0.0
  layer_norm: bool = False
  hidden_scale: float = 1.0
  remat: bool = False
  unroll: int | None = None
  dtype: Dtype = "float32"

  RANK: ClassVar[int] = 3
  GATES: ClassVar[tuple[int, ...]] = ()  # in multiples of `features`; one layer norm for each

  def _cell(self) -> nn.Module:
    raise NotImplementedError

  def _rates(self) -> Any:
    """Zoneout per array of the state; its structure is that of the state."""
    return HiddenState(self.zoneout)

  def _kernel_size(self) -> tuple[int, ...]:
    return ()

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "B T *grid C"],
    state: States | None = None,
    *,
    mask: Shaped[Array, "..."] | None = None,
    train: bool = False,
  ) -> tuple[Float[Array, "B T *grid D"], States]:
    """Runs over a clip.

    Args:
      x: features of the frames.
      state: before the first frame (for backward cells: behind the last); zeros when left out. One entry per layer
        and direction: (forward 0, backward 0, forward 1, ...), each `HiddenState` or `LSTMState`.
      mask: (B T), 1 or True at real frames. At the others the state is held and the output is zero.
      train: draws dropout and zoneout (rng "dropout").

    Returns:
      The hidden states of the last layer, and the state after the clip, which continues it when passed in again.

    Raises:
      ValueError: wrong rank, mask or state.
    """
    check_clip(self, x, mask, self.RANK)
    check_fields(self)
    zero = self.zero_state(x.shape[0], *x.shape[2:-1])
    state = zero if state is None else state
    check_state(state, zero)
    real = None if mask is None else rearrange(mask.astype(bool), "b t -> t b")
    x = masked(rearrange(x, "b t ... -> t b ..."), real)
    final: list[Any] = []
    for layer in range(self.layers):
      x = Dropout(self.dropout, deterministic=not train)(x) if layer else x
      outputs = []
      for direction in ("forward", "backward")[: 1 + self.bidirectional]:
        end, hidden = self._pass(f"{direction}{layer}", x, state[len(final)], real, train)
        final.append(end)
        outputs.append(hidden)
      x = jnp.concatenate(outputs, axis=-1)
    return rearrange(x, "t b ... -> b t ..."), tuple(final)

  def _pass(self, name: str, x: Array, state: Any, real: Array | None, train: bool) -> tuple[Any, Array]:
    """One cell over the clip, time first."""
    groups = tuple(k * self.features for k in self.GATES)
    mapped = InputMap(
      sum(groups), self._kernel_size(), groups if self.layer_norm else (), self.dtype, name=f"{name}_input"
    )
    gates = mapped(x)
    cell = self._cell()
    params = cell_params(self, f"{name}_cell", cell, state, gates)
    keep = None
    if any(jax.tree.leaves(self._rates())):
      keep = zoneout_keep(self._rates(), state, len(x), self.make_rng("dropout") if train else None)
    reverse = name.startswith("backward")
    unroll = self.unroll or unrolled(len(x), self.RANK == 5)
    end, (hidden, _) = over_time(cell, params, state, gates, real, keep, unroll, self.remat, reverse)
    return end, hidden

  @nn.nowrap
  def zero_state(self, batch: int, *grid: int) -> States:
    """The state before the first frame of `batch` clips; maps take their height and width too."""
    zeros = jax.tree.map(lambda _: jnp.zeros((batch, *grid, self.features), self.dtype), self._rates())
    return (zeros,) * (self.layers * (1 + self.bidirectional))


class RNN(Recurrent):
  """Plain recurrence on vectors, `(B T C) -> (B T D)`: `RNNCell`. Fields: activation, "tanh" or "relu"."""

  activation: Literal["tanh", "relu"] = "tanh"

  GATES = (1,)

  def _cell(self) -> nn.Module:
    options = (self.activation, self.layer_norm, self.dtype)
    return RNNCell(self.features, (), self.hidden_scale, *options, parent=None)


class GRU(Recurrent):
  """Gated recurrent units on vectors, `(B T C) -> (B T D)`: `GRUCell`, the variant of cuDNN and torch."""

  GATES = (2, 1)

  def _cell(self) -> nn.Module:
    return GRUCell(self.features, self.hidden_scale, self.layer_norm, self.dtype, parent=None)


class LSTM(Recurrent):
  """Long short-term memory on vectors, `(B T C) -> (B T D)`: `LSTMCell`.

  Fields:
    forget_bias: added to the forget gate, so that memory lasts from the start (Jozefowicz et al. 2015); 0 for weights
      of torch.
    zoneout_memory: as `zoneout`, of the memory; Krueger et al. use 0.5, and 0.05 for the hidden state.
    peephole: see `LSTMCell`.
  """

  forget_bias: float = 1.0
  zoneout_memory: float = 0.0
  peephole: Literal["none", "channel"] = "none"

  GATES = (4,)

  def _rates(self) -> Any:
    return LSTMState(self.zoneout, self.zoneout_memory)

  def _cell(self) -> nn.Module:
    options = (self.forget_bias, self.peephole, self.layer_norm, self.dtype)
    return LSTMCell(self.features, (), self.hidden_scale, *options, parent=None)


class ConvGRU(Recurrent):
  """Gated recurrent units on maps, `(B T h w C) -> (B T h w D)`: `ConvGRUCell`. Fields: kernel, side [positions]."""

  kernel: int = 3

  RANK = 5
  GATES = (2, 1)

  def _kernel_size(self) -> tuple[int, ...]:
    return (self.kernel, self.kernel)

  def _cell(self) -> nn.Module:
    options = (self.hidden_scale, self.layer_norm, self.dtype)
    return ConvGRUCell(self.features, self._kernel_size(), *options, parent=None)


class ConvLSTM(Recurrent):
  """Long short-term memory on maps, `(B T h w C) -> (B T h w D)`: `LSTMCell` with convolutions.

  Hidden states are small at the start (about 0.2), so with `hidden_scale` 1 the past hardly reaches the gates; 4 is
  the default here. See decision 10 in DESIGN.md.

  Fields:
    kernel: side of both convolutions [positions].
    forget_bias, zoneout_memory: as in `LSTM`.
    peephole: see `LSTMCell`.
  """

  hidden_scale: float = 4.0
  kernel: int = 3
  forget_bias: float = 1.0
  zoneout_memory: float = 0.0
  peephole: Peephole = "none"

  RANK = 5
  GATES = (4,)

  def _kernel_size(self) -> tuple[int, ...]:
    return (self.kernel, self.kernel)

  def _rates(self) -> Any:
    return LSTMState(self.zoneout, self.zoneout_memory)

  def _cell(self) -> nn.Module:
    options = (self.forget_bias, self.peephole, self.layer_norm, self.dtype)
    return LSTMCell(self.features, self._kernel_size(), self.hidden_scale, *options, parent=None)
