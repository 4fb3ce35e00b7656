"""Scheduled sampling: a forecaster in training reads true frames less and less often, and its own predictions instead.

Source: Bengio et al. 2015, "Scheduled Sampling for Sequence Prediction with Recurrent Neural Networks"; of whole frames
as in PredRNN (Wang et al. 2017), reversed as in PredRNN v2 (Wang et al. 2022, section 3.4).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float


class Sampling(NamedTuple):
  """What a forecaster reads behind the first frame of a clip of T frames, when F more are to be predicted.

  targets: (B F H W C) the true frames behind the clip, in the units of the clip; the last of them is never read.
  given: (B T+F-2) for the frames 1 .. T+F-2 of clip and targets: true = the frame itself, false = its prediction.
  """

  targets: Array
  given: Array


def draw_given(
  key: Array, batch: int, frames: int, future: int, share: ArrayLike, seen_share: ArrayLike = 1.0
) -> Bool[Array, "B S"]:
  """`Sampling.given`, drawn for whole frames of each clip apart.

  Args:
    frames, future: T and F.
    share: of the target frames that are read, 0..1 (eta of the papers).
    seen_share: of the frames of the clip itself; below 1 in reverse scheduled sampling only.
  """
  shares = jnp.concatenate([jnp.full(frames - 1, seen_share), jnp.full(future - 1, share)])
  return jax.random.bernoulli(key, shares, (batch, frames + future - 2))


def linear_share(step: ArrayLike, last: int = 50_000) -> Float[Array, ""]:
  """1 at step 0, falling linearly to 0 at step `last`; the default is OpenSTL's 2e-5 per step."""
  return jnp.clip(1 - jnp.asarray(step) / last, 0, 1)


def reverse_shares(
  step: ArrayLike, first: int = 25_000, last: int = 50_000, scale: float = 5_000.0
) -> tuple[Float[Array, ""], Float[Array, ""]]:
  """(seen_share, share) of reverse scheduled sampling: both 1/2 at first, so that memory is exercised; later 1 and 0.

  From step `first` on the share of the clip's frames is 1 - exp(-(step - first) / scale) / 2, that of targets falls
  linearly; from step `last` on they are 1 and 0. Defaults as in OpenSTL.
  """
  step = jnp.asarray(step, jnp.float32)
  seen = jnp.where(step < first, 0.5, 1 - 0.5 * jnp.exp(-(step - first) / scale))
  share = 0.5 * jnp.clip((last - step) / (last - first), 0, 1)
  return jnp.where(step >= last, 1.0, seen), share
