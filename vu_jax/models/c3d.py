"""C3D: eight 3x3x3 convolutions, five poolings and two fully connected layers."""

import itertools
import string
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vu_jax.errors import UserError
from vu_jax.glossary import Count, Fraction
from vu_jax.layers.convolution.conv_modules import Conv3D
from vu_jax.layers.convolution.pool import ceil_padding, max_pool
from vu_jax.layers.dense import Dense
from vu_jax.layers.drop import Dropout
from vu_jax.layers.gates import global_mean
from vu_jax.layers.initial import flat
from vu_jax.layers.precision import Dtype

TINY = {"stages": ((4,), (8, 8)), "hidden": (8, 16), "join": (1, 4, 4)}
PRESETS: dict[str, dict[str, Any]] = {
  "c3d": {},
  "c3d_ucf101": {"stages": ((64,), (128,), (256,), (256,), (256,)), "hidden": (2048, 2048)},
}
HE = flat(nn.initializers.he_normal())


class Model(nn.Module):
  """clip -> convolutions and poolings -> two fully connected layers.

    video (B 16 112 112 3) --conv, pool--> (B 16 56 56 64) --> (B 8 28 28 128) --> (B 4 14 14 256) --> (B 2 7 7 512)
    --> (B 1 4 4 512) --fc6, ReLU, dropout, fc7, ReLU--> tokens (B 1 1 1 4096) --mean--> pooled (B 4096)

  fc6 joins 1x4x4 positions, all of a clip of the published size; in a larger or longer one it is taken at every place,
  and `pooled` is the mean.

  Source: Tran et al. 2015, "Learning spatiotemporal features with 3D convolutional networks", section 3.3, figure 3;
    the smaller "c3d_ucf101" section 3.1.
  Differs from the paper: kernels start by He's rule instead of a fixed deviation. Pools round sizes up, as in Caffe;
    ports to torch pad the last one by 1 on both sides instead, and then shift the 4x4 grid by half a position.

  Fields:
    stages: channels of the convolutions before each pool; the first pool leaves time alone.
    join: positions (t h w) that fc6 sees.
    hidden: channels of fc6 and fc7; the dropout behind fc7 is the task's.
    dropout: share of fc6 that is dropped in training.
    remat: compute convolutions again in the backward pass, which saves memory and costs time.
    dtype: of the computation; parameters are float32.

  Raises:
    UserError: frames that are too small for fc6; the message says which size is enough.
  """

  stages: tuple[tuple[Count, ...], ...] = ((64,), (128,), (256, 256), (512, 512), (512, 512))
  join: tuple[Count, Count, Count] = (1, 4, 4)
  hidden: tuple[Count, Count] = (4096, 4096)
  dropout: Fraction = 0.5
  remat: bool = False
  dtype: Dtype = "float32"

  @nn.compact
  def __call__(self, video: Float[Array, "B T H W C"], *, train: bool) -> dict[str, Array]:
    self._check(video.shape[1:4])
    x, conv = video, nn.remat(Conv3D) if self.remat else Conv3D
    for i, widths in enumerate(self.stages):
      for letter, width in zip(string.ascii_lowercase, widths, strict=False):
        name = f"conv{i + 1}{letter}"
        x = nn.relu(conv(width, padding=(1, 1, 1), kernel_init=HE, dtype=self.dtype, name=name)(x))
      window = (2 if i else 1, 2, 2)
      x = max_pool(x, window, padding=ceil_padding(x.shape[1:4], window))
    x = nn.relu(Dense(self.hidden[0], kernel_init=HE, dtype=self.dtype, name="fc6")(joined(x, self.join)))
    x = Dropout(self.dropout, deterministic=not train)(x)
    x = nn.relu(Dense(self.hidden[1], kernel_init=HE, dtype=self.dtype, name="fc7")(x))
    return {"tokens": x, "pooled": global_mean(x).astype(self.dtype)}

  @nn.nowrap
  def _check(self, size: tuple[int, ...]) -> None:
    """Each pool halves and rounds up, so n positions of fc6 need at least (n - 1) * 2^pools + 1 pixels."""
    pools = (len(self.stages) - 1, len(self.stages), len(self.stages))
    least = [(n - 1) * 2**p + 1 for n, p in zip(self.join, pools, strict=True)]
    if any(n < m for n, m in zip(size, least, strict=True)):
      t, h, w = least
      raise UserError(
        f"c3d with join={self.join} needs clips of at least {t} frames of {w}x{h} px, not {size[0]} of "
        f"{size[2]}x{size[1]}; give larger ones or a smaller join"
      )


def joined(x: Float[Array, "B t h w C"], window: tuple[int, int, int]) -> Float[Array, "B t2 h2 w2 D"]:
  """The channels of all positions of each window side by side, row-major: what a fully connected layer sees.

  A convolution would be the same, and takes three times as long for a window that is the whole map.
  """
  t, h, w = (n - k + 1 for n, k in zip(x.shape[1:4], window, strict=True))
  places = itertools.product(*map(range, window))
  return jnp.concatenate([x[:, i : i + t, j : j + h, k : k + w] for i, j, k in places], axis=-1)
