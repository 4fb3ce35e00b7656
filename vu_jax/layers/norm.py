"""Normalisation of channels: constructors with the settings of a whole model, called as `norm(name="norm")(x)`.

The statistics are computed in float32 whatever the dtype.
"""

from functools import partial

from vu_jax.layers.batch_norm import BatchNorm
from vu_jax.layers.convolution.conv_modules import Norm
from vu_jax.layers.layer_norm import LayerNorm
from vu_jax.layers.precision import Dtype


def batch_norm(
  *,
  train: bool,
  frozen: bool = False,
  momentum: float = 0.9,
  epsilon: float = 1e-5,
  use_scale: bool = True,
  dtype: Dtype = "float32",
) -> Norm:
  """Batch norm over all but the last axis, and over all devices: under jit the batch is the global one.

  Args:
    train: normalise by the batch's statistics and move the stored ones (collection "batch_stats").
    frozen: use the stored statistics in training, too, and leave them as they are: for small batches and fine-tuning.
    momentum: share of the old statistics that stays; one minus what torch calls momentum.
    epsilon: added to the variance.
    use_scale: whether there is a factor per channel besides the offset.
    dtype: of the result.

  Source: Ioffe & Szegedy 2015, algorithm 1.
  Differs from torch: the stored variance is that of the batch, not multiplied by n / (n - 1).
  """
  return partial(
    BatchNorm,
    use_running_average=frozen or not train,
    momentum=momentum,
    epsilon=epsilon,
    use_scale=use_scale,
    dtype=dtype,
  )


def layer_norm(*, epsilon: float = 1e-6, dtype: Dtype = "float32") -> Norm:
  """Layer norm over the last axis (Ba et al. 2016)."""
  return partial(LayerNorm, epsilon=epsilon, dtype=dtype)
