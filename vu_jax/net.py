"""Backbone and head as one network: a batch in, named outputs out."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8


class Net(nn.Module):
  """`head(backbone(video), batch)`, with parameters `{"backbone": ..., "head": ...}`.

  Fields:
    backbone: a model of `vu_jax/models`, video to features.
    head: a task's head, features (and the batch, such as text for teacher forcing) to named outputs.
    frozen: the backbone is not trained: it works as in evaluation (no dropout, stored statistics) and gets no gradient.
    mean, std: per channel, in units of full scale (0..1); the network sees (pixel / 255 - mean) / std.
  """

  backbone: nn.Module
  head: nn.Module
  frozen: bool = False
  mean: tuple[float, ...] = (0.5, 0.5, 0.5)
  std: tuple[float, ...] = (0.25, 0.25, 0.25)

  def __call__(self, batch: Mapping[str, Any], *, train: bool) -> dict[str, Array]:
    video = normalize(batch["video"], self.mean, self.std)
    features = self.backbone(video, train=train and not self.frozen)
    if self.frozen:
      features = jax.lax.stop_gradient(features)
    return self.head(features, batch, train=train)


def normalize(
  video: UInt8[Array, "B T H W C"], mean: tuple[float, ...], std: tuple[float, ...]
) -> Float[Array, "B T H W C"]:
  """uint8 pixels 0..255 to floats around zero: the one place where pixels become floats."""
  return (video.astype(jnp.float32) / 255 - jnp.asarray(mean)) / jnp.asarray(std)
