"""PredRNN: spatio-temporal LSTMs whose second memory runs up through the layers and on to the next step."""

import flax.linen as nn
from jaxtyping import Array, Float

from vu_jax.glossary import Count
from vu_jax.layers.blocks.forecast import Forecaster
from vu_jax.layers.precision import Dtype
from vu_jax.layers.recurrence.hoist import RecurrentMap
from vu_jax.layers.recurrence.predrnn import Extras, PredRNN, PredRNNCell, PredRNNState

TINY = {"features": 4, "layers": 2, "kernel": 3, "patch": 2, "future": 2}
PRESETS = {
  "predrnn": {"features": 128, "layers": 4, "kernel": 5, "patch": 4, "future": 10},
  "predrnn_v2": {"features": 128, "layers": 4, "kernel": 5, "patch": 4, "future": 10, "decouple": True},
}


class Stack(nn.Module):
  """One step of all layers, the lowest layer's input convolution included: its input may be a prediction."""

  features: int
  layers: int
  kernel: int
  forget_bias: float
  hidden_scale: float
  decouple: bool
  dtype: Dtype

  @nn.compact
  def __call__(self, state: PredRNNState, x: Float[Array, "B h w C"]) -> tuple[PredRNNState, Extras]:
    size = (self.kernel, self.kernel)
    gates = RecurrentMap(7 * self.features, size, dtype=self.dtype, name="input0")(x)
    options = (self.hidden_scale, self.forget_bias, False, self.dtype)
    cell = PredRNNCell(
      self.features, self.layers, size, *options, use_bias=False, decouple=self.decouple, name="layers"
    )
    return cell(state, gates)

  @nn.nowrap
  def zero_state(self, batch: int, height: int, width: int) -> PredRNNState:
    layer = PredRNN(self.features, self.layers, dtype=self.dtype, parent=None)
    return layer.zero_state(batch, height, width)


class Model(Forecaster):
  """Patches -> stacked ST-LSTMs -> 1x1 read-out, unrolled over T + future - 1 steps; see `Forecaster` for the outputs.

  With `decouple` there is one more output: decoupling (B), 0..1, the mean over steps, layers and channels of
  |cos(increment of C, increment of M)|, which a task adds to its loss (0.1 times in the recipe).

  Source: Wang et al. 2017, "PredRNN"; Wang et al. 2022, "PredRNN: A Recurrent Neural Network for Spatiotemporal
  Predictive Learning" (v2: decoupling and reverse scheduled sampling), in the form of OpenSTL (Tan et al. 2023).
  Differs from the papers: no layer norm in the cells, as in OpenSTL on Moving MNIST. Kernels start orthogonal.

  Recipe on Moving MNIST (OpenSTL), 10 -> 10 frames of 64x64x1 scaled to 0..1: preset "predrnn"; MSE over all 19
  predictions; Adam, one cycle with peak 5e-4 (its maintainers also use 1e-4), 16 clips, 200 epochs of 10,000 drawn
  sequences; scheduled sampling with the share of `linear_share`, v2 with `reverse_shares` and 0.1 times the decoupling.
  Published (sums over pixels, 200 epochs): MSE 23.97, MAE 72.82, SSIM 0.9462; v2 24.13, 73.73, 0.9453. At 2,000 epochs
  v2 reaches MSE 17.26, and v1 gets worse (26.43).

  Fields:
    features: channels of hidden states and memories, the same in all layers because M passes through all.
    layers: stacked.
    kernel: side of the gates' convolutions [positions].
    forget_bias: added to both forget gates.
    hidden_scale: of the orthogonal kernels on states at the start.
    decouple: v2's `decoupling`; one more 1x1 convolution, shared by all layers, in training as in evaluation.
    patch, future, pool, remat, dtype: see `Forecaster`.
  """

  features: Count = 128
  layers: Count = 4
  kernel: Count = 5
  forget_bias: float = 1.0
  hidden_scale: float = 1.0
  decouple: bool = False

  @nn.nowrap
  def _stack(self) -> Stack:
    shape = (self.features, self.layers, self.kernel)
    return Stack(*shape, self.forget_bias, self.hidden_scale, self.decouple, self.dtype, parent=None)
