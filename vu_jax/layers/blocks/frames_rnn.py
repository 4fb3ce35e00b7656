"""RNN, LSTM or GRU over the features of frames, and what the clip is behind it."""

from typing import Any, Literal, TypeAlias

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange, reduce
from jaxtyping import Array, Float

from vu_jax.layers.blocks.time_pool import Pool, TimePool
from vu_jax.layers.drop import Dropout
from vu_jax.layers.precision import Dtype
from vu_jax.layers.recurrence.recurrent import GRU, LSTM, RNN, Recurrent

Cell: TypeAlias = Literal["rnn", "lstm", "gru"]
State = dict[str, Any]


class FramesRNN(nn.Module):
  """Mean over space -> recurrent layers -> pooling over time.

    maps (B T h w C) --mean--> (B T C) --recurrent--> tokens (B T 1 1 D), pooled (B D)

  Fields:
    cell: "rnn", "lstm" or "gru".
    features: units of each layer, per direction; D is twice that if `bidirectional`.
    layers: stacked.
    bidirectional: a second cell per layer runs backwards in time.
    pool: over time, see `TimePool`; for "last" each direction gives its own last hidden state.
    dropout: share of what enters each layer, the first included, that is dropped in training (Zaremba et al. 2014,
      "Recurrent Neural Network Regularization").
    remat: recompute each step of the recurrence in the backward pass.
    dtype: of the computation; parameters are float32.
  """

  cell: Cell
  features: int
  layers: int = 1
  bidirectional: bool = False
  pool: Pool = "last"
  dropout: float = 0.0
  remat: bool = False
  dtype: Dtype = "float32"

  def setup(self) -> None:
    self.recurrent = self._recurrent()
    self.over_time = self._over_time()
    self.drop = Dropout(self.dropout)

  def __call__(self, maps: Float[Array, "B T h w C"], state: State, *, train: bool) -> tuple[dict[str, Array], State]:
    """`tokens` of these frames and `pooled` of all so far, and the state behind them."""
    x = self.drop(reduce(maps, "b t h w c -> b t c", "mean"), deterministic=not train)
    hidden, carry = self.recurrent(x, state["carry"], train=train)
    tokens = rearrange(hidden, "b t d -> b t 1 1 d")
    pooled, pool = self.over_time(tokens, state["pool"])
    if self.bidirectional and self.pool == "last":
      pooled = jnp.concatenate([end.hidden for end in carry[-2:]], axis=-1)
    return {"tokens": tokens, "pooled": pooled}, {"carry": carry, "pool": pool}

  @nn.nowrap
  def zero_state(self, batch: int) -> State:
    """The state before the first frame."""
    width = self.features * (1 + self.bidirectional)
    return {"carry": self._recurrent().zero_state(batch), "pool": self._over_time().zero_state(batch, width)}

  @nn.nowrap
  def _recurrent(self) -> Recurrent:
    kind = {"rnn": RNN, "lstm": LSTM, "gru": GRU}[self.cell]
    return kind(
      self.features,
      self.layers,
      self.bidirectional,
      dropout=self.dropout,
      remat=self.remat,
      dtype=self.dtype,
      parent=None,
    )

  @nn.nowrap
  def _over_time(self) -> TimePool:
    return TimePool(self.pool, self.dtype, parent=None)
