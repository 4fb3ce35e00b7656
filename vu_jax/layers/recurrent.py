"""Recurrence over time: a pure cell, lifted over the frames by `nn.scan`.

The input convolution of all frames leaves the scan and runs as one convolution; only the hidden-to-hidden
convolution stays inside.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

Carry = tuple[Float[Array, "B h w D"], Float[Array, "B h w D"]]


def conv_lstm_step(
  carry: Carry, gates: Float[Array, "B h w G"], forget_bias: float
) -> tuple[Carry, Float[Array, "B h w D"]]:
  """One step of the LSTM equations on maps, from the summed pre-activations of the four gates (G = 4 D).

  i, f, o = sigmoid(gates), f with `forget_bias` added; c' = f c + i tanh(g); h' = o tanh(c').
  Source: Shi et al. 2015, "Convolutional LSTM Network", equation 3.
  Differs from the paper: no peephole connections.
  """
  _, memory = carry
  i, f, g, o = jnp.split(gates, 4, axis=-1)
  memory = nn.sigmoid(f + forget_bias) * memory + nn.sigmoid(i) * jnp.tanh(g)
  hidden = nn.sigmoid(o) * jnp.tanh(memory)
  return (hidden, memory), hidden


class ConvLSTMCell(nn.Module):
  """Adds the hidden-to-hidden convolution to the gates of the input, then `conv_lstm_step`."""

  features: int
  kernel: int = 3
  forget_bias: float = 1.0
  hidden_scale: float = 4.0
  dtype: str = "float32"

  @nn.compact
  def __call__(self, carry: Carry, input_gates: Float[Array, "B h w G"]) -> tuple[Carry, Float[Array, "B h w D"]]:
    size = (self.kernel, self.kernel)
    init = nn.initializers.orthogonal(self.hidden_scale)
    conv = nn.Conv(4 * self.features, size, use_bias=False, kernel_init=init, dtype=self.dtype, name="hidden")
    return conv_lstm_step(carry, input_gates + conv(carry[0]), self.forget_bias)


class ConvLSTM(nn.Module):
  """ConvLSTM over a clip: `(B T h w C) -> (B T h w features)` and the final `(hidden, memory)`.

  Fields:
    features: channels of hidden state and memory.
    kernel: side of both convolutions [positions].
    forget_bias: added to the forget gate, so that memory lasts from the start (Jozefowicz et al. 2015).
    hidden_scale: of the orthogonal hidden-to-hidden kernels at the start. Hidden states are small (about 0.2), so with
      a scale of 1 the past hardly reaches the gates; see decision 10 in DESIGN.md.
    unroll: steps per loop iteration; more is faster on the CPU, where XLA's convolutions inside a loop are slow,
      and compiles longer.
    dtype: of the computation; parameters are float32.
  """

  features: int
  kernel: int = 3
  forget_bias: float = 1.0
  hidden_scale: float = 4.0
  unroll: int = 16
  dtype: str = "float32"

  @nn.compact
  def __call__(
    self, x: Float[Array, "B T h w C"], carry: Carry | None = None
  ) -> tuple[Float[Array, "B T h w D"], Carry]:
    batch, steps, height, width, _ = x.shape
    size = (self.kernel, self.kernel)
    frames = rearrange(x, "b t h w c -> (b t) h w c")
    gates = nn.Conv(4 * self.features, size, dtype=self.dtype, name="input")(frames)
    gates = rearrange(gates, "(b t) h w g -> b t h w g", b=batch)
    if carry is None:
      carry = conv_lstm_carry(batch, height, width, self.features, self.dtype)
    lifted: Any = nn.scan(
      ConvLSTMCell,
      variable_broadcast="params",
      split_rngs={"params": False},
      in_axes=1,
      out_axes=1,
      unroll=min(self.unroll, steps),
    )
    cell = lifted(self.features, self.kernel, self.forget_bias, self.hidden_scale, self.dtype, name="cell")
    carry, hidden = cell(carry, gates)
    return hidden, carry


def conv_lstm_carry(batch: int, height: int, width: int, features: int, dtype: str) -> Carry:
  """The state before the first frame: zeros."""
  zeros = jnp.zeros((batch, height, width, features), dtype)
  return zeros, zeros
