"""Mixing the clips of a batch: mixup and CutMix, on the device, with targets to match.

Mixup: Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization". CutMix: Yun et al. 2019, "CutMix:
Regularization Strategy to Train Strong Classifiers with Localizable Features". Over frames: Yun et al. 2020,
"VideoMix".

A partner may lie on another device: the videos of the batch, as uint8, are then gathered on all of them.

Differs from the papers: every clip draws its own share (theirs: one per batch), and never has itself for a partner.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from vu_jax.glossary import is_zero

Region: TypeAlias = Literal["space", "time", "space_time"]
_AXES: dict[Region, tuple[int, ...]] = {"space": (2, 3), "time": (1,), "space_time": (1, 2, 3)}


@dataclass(frozen=True)
class Mix:
  """How clips are mixed.

  Fields:
    num_classes: Y.
    mixup_alpha, cutmix_alpha: of Beta(alpha, alpha); 0 = off. With both on, each clip gets either with probability 1/2.
    cutmix_region: a box in all frames, whole frames, or a box in some frames.
    mix_frac: share of clips that are mixed.
  """

  num_classes: int
  mixup_alpha: float = 0.0
  cutmix_alpha: float = 0.0
  cutmix_region: Region = "space"
  mix_frac: float = 1.0

  @property
  def on(self) -> bool:
    """Whether any clip may be mixed."""
    return not is_zero(self.mix_frac) and not (is_zero(self.mixup_alpha) and is_zero(self.cutmix_alpha))


def mixed(key: Key[Array, ""], batch: Mapping[str, Any], mix: Mix) -> dict[str, Any]:
  """The batch with mixed videos and a soft target; label, index and mask stay those of a clip's own part.

  video_b = w_b video_b + (1 - w_b) video_partner(b), where w_b is one number (mixup) or 0 in a box and 1 outside
  (CutMix); target_b = s_b onehot(label_b) + (1 - s_b) onehot(label_partner(b)), where s_b is the mean of w_b.

  Args:
    key: of the step.
    batch: video (uint8 is rounded to the nearest value), label and mask. Padding (mask 0) is left as it is and mixed
      into nothing; a lone real clip is mixed with itself.
    mix: how.

  Returns:
    The same keys, and target float32 (B, Y), whose rows sum to 1.
  """
  video, keys = batch["video"], jax.random.split(key)
  other = partners(keys[0], batch["mask"])
  real = (batch["mask"] > 0)[:, None, None, None, None]
  weight = jnp.where(real, weights(keys[1], video.shape, mix), 1.0)
  share = weight.mean((1, 2, 3, 4))[:, None]
  blend = weight * video + (1 - weight) * video[other]
  if jnp.issubdtype(video.dtype, jnp.integer):
    blend = jnp.round(blend)
  own = jax.nn.one_hot(batch["label"], mix.num_classes)
  return {**batch, "video": blend.astype(video.dtype), "target": share * own + (1 - share) * own[other]}


def partners(key: Key[Array, ""], mask: Float[Array, " B"]) -> Int[Array, " B"]:
  """For each real clip another real one, each chosen once: the next one in a random ring. Padding keeps itself."""
  count = (mask > 0).sum()
  # Draws are below 1, so adding 1 sorts padding behind all real clips.
  ring = jnp.argsort(jax.random.uniform(key, mask.shape) + (mask <= 0))
  place = jnp.arange(len(mask))
  following = ring[jnp.where(place + 1 < count, place + 1, 0)]
  return jnp.zeros_like(ring).at[ring].set(jnp.where(place < count, following, ring))


def weights(key: Key[Array, ""], shape: tuple[int, ...], mix: Mix) -> Float[Array, "B #T #H #W 1"]:
  """The weight of a clip's own pixels, 0..1, for videos of the given shape."""
  up, cut, which, who = jax.random.split(key, 4)
  size = shape[0]
  everywhere = jnp.ones((size, 1, 1, 1, 1))
  weight = everywhere
  # Alphas may be traced; Beta(0, 0) is not a number, so zeros draw by some other alpha, and what they draw is not used.
  if not is_zero(mix.mixup_alpha):
    alpha = jnp.where(mix.mixup_alpha > 0, mix.mixup_alpha, 1.0)
    weight = jnp.where(mix.mixup_alpha > 0, jax.random.beta(up, alpha, alpha, everywhere.shape), everywhere)
  if not is_zero(mix.cutmix_alpha):
    alpha = jnp.where(mix.cutmix_alpha > 0, mix.cutmix_alpha, 1.0)
    outside = 1 - boxes(cut, shape, alpha, mix.cutmix_region)
    mixup_frac = jnp.where(mix.cutmix_alpha > 0, jnp.where(mix.mixup_alpha > 0, 0.5, 0.0), 1.0)
    weight = jnp.where(jax.random.bernoulli(which, mixup_frac, everywhere.shape), weight, outside)
  return jnp.where(jax.random.bernoulli(who, mix.mix_frac, everywhere.shape), weight, everywhere)


def boxes(
  key: Key[Array, ""], shape: tuple[int, ...], alpha: float | Float[Array, ""], region: Region
) -> Float[Array, "B #T #H #W 1"]:
  """1 in a box per clip, 0 outside (CutMix, equation 2).

  The box fills 1 - lambda of the region, lambda ~ Beta(alpha, alpha), with equal shares of all sides. Its centre is
  uniform, and what lies outside of the video is cut off, so that it may be smaller.
  """
  share, *centres = jax.random.split(key, 4)
  axes = _AXES[region]
  side = (1 - jax.random.beta(share, alpha, alpha, (shape[0],))) ** (1 / len(axes))
  box = jnp.ones((shape[0], 1, 1, 1, 1))
  for axis in axes:
    length = jnp.floor(shape[axis] * side).astype(int)
    start = jax.random.randint(centres[axis - 1], (shape[0],), 0, shape[axis]) - length // 2
    place = jnp.arange(shape[axis])
    inside = (place >= start[:, None]) & (place < (start + length)[:, None])
    box = box * jnp.expand_dims(inside, [a for a in range(1, 5) if a != axis])
  return box
