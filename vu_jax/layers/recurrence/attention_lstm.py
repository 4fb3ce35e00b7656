"""LSTM with spatial attention: at every step it chooses where in the frame to look.

Source: Sharma et al. 2015, "Action Recognition using Visual Attention", section 3.2; scores as in Bahdanau et al. 2015,
"Neural Machine Translation by Jointly Learning to Align and Translate", appendix A.1.2.
"""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float, Shaped

from vu_jax.layers.dense import add_bias
from vu_jax.layers.precision import Dtype, add, cast
from vu_jax.layers.recurrence.cells import LSTMCell, LSTMState
from vu_jax.layers.recurrence.hoist import RecurrentMap
from vu_jax.layers.recurrence.input_map import InputMap
from vu_jax.layers.recurrence.over_time import (
  cell_params,
  check_clip,
  check_fields,
  check_state,
  masked,
  over_time,
  zoneout_keep,
)

Frame = tuple[Float[Array, "B N C"], Float[Array, "B N K"]]
Looked = tuple[Float[Array, "B C"], Float[Array, "B N"]]


class AttentionLSTMCell(nn.Module):
  """a = softmax over positions p of v . tanh(keys[p] + W h); z = sum_p a[p] x[p]; then `LSTMCell` on z.

  `__call__(state, (x, keys))` returns the state and (z, a); the softmax is float32. Keys are the part of the scores
  that does not depend on the state, computed by the layer.
  """

  features: int
  forget_bias: float = 1.0
  peephole: Literal["none", "channel"] = "none"
  layer_norm: bool = False
  hidden_scale: float = 1.0
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, state: LSTMState, frame: Frame) -> tuple[LSTMState, Looked]:
    x, keys = frame
    query = RecurrentMap(keys.shape[-1], dtype=self.dtype, name="query")(state.hidden)
    (weigh,) = cast(self.dtype, self.param("weigh", nn.initializers.normal(keys.shape[-1] ** -0.5), keys.shape[-1:]))
    scores = jnp.einsum("bnk,k->bn", jnp.tanh(add(keys, query[:, None])), weigh, preferred_element_type=jnp.float32)
    attention = nn.softmax(scores).astype(self.dtype)
    looked = jnp.einsum("bn,bnc->bc", attention, x)
    gates = add_bias(self, RecurrentMap(4 * self.features, dtype=self.dtype, name="input")(looked))
    options = (self.hidden_scale, self.forget_bias, self.peephole, self.layer_norm, self.dtype)
    state, _ = LSTMCell(self.features, (), *options, name="lstm")(state, gates)
    return state, (looked, attention)


class AttentionLSTM(nn.Module):
  """LSTM over time with spatial attention: `(B T h w C) -> (B T C+D)`.

  Differs from the papers: scored from the hidden state and the frame (Sharma et al.: the hidden state alone), starts
  from zeros instead of from the mean frame, and the attended feature is part of the output.

  Fields:
    features: units D of the LSTM.
    attention: width of the scoring layer.
    forget_bias, peephole, layer_norm, zoneout, zoneout_memory, hidden_scale, remat, unroll, dtype: as in
      `recurrent.LSTM`.
  """

  features: int
  attention: int = 64
  forget_bias: float = 1.0
  peephole: Literal["none", "channel"] = "none"
  layer_norm: bool = False
  zoneout: float = 0.0
  zoneout_memory: float = 0.0
  hidden_scale: float = 1.0
  remat: bool = False
  unroll: int = 1
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "B T h w C"],
    state: LSTMState | None = None,
    *,
    mask: Shaped[Array, "..."] | None = None,
    train: bool = False,
  ) -> tuple[Float[Array, "B T D"], LSTMState, Float[Array, "B T h w"]]:
    """Runs over a clip; arguments and errors as in `recurrent.Recurrent`.

    Returns:
      The attended features concatenated with the hidden states, the state after the clip, and where it looked at
      each frame (sums to 1 over the positions; zero at padded frames).
    """
    check_clip(self, x, mask, 5)
    rates = LSTMState(self.zoneout, self.zoneout_memory)
    check_fields(self)
    zero = self.zero_state(x.shape[0])
    state = zero if state is None else state
    check_state(state, zero)
    real = None if mask is None else rearrange(mask.astype(bool), "b t -> t b")
    height = x.shape[2]
    (x,) = cast(self.dtype, masked(rearrange(x, "b t h w c -> t b (h w) c"), real))
    frames = (x, InputMap(self.attention, dtype=self.dtype, name="keys")(x))
    options = (self.forget_bias, self.peephole, self.layer_norm, self.hidden_scale, self.dtype)
    cell = AttentionLSTMCell(self.features, *options, parent=None)
    params = cell_params(self, "cell", cell, state, frames)
    keep: Any = None
    if any(rates):
      keep = zoneout_keep(rates, state, len(x), self.make_rng("dropout") if train else None)
    state, (hidden, extras) = over_time(cell, params, state, frames, real, keep, self.unroll, self.remat)
    looked, attention = jax.tree.map(lambda y: rearrange(y, "t b c -> b t c"), extras)
    out = jnp.concatenate([looked, rearrange(hidden, "t b d -> b t d")], axis=-1)
    return out, state, rearrange(attention, "b t (h w) -> b t h w", h=height)

  @nn.nowrap
  def zero_state(self, batch: int) -> LSTMState:
    """The state before the first frame."""
    zeros = jnp.zeros((batch, self.features), self.dtype)
    return LSTMState(zeros, zeros)
