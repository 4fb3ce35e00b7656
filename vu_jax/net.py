"""Backbone and head as one network: a batch in, named outputs out."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from vu_jax.errors import UserError
from vu_jax.glossary import Seen

State = dict[str, Any]


class Net(nn.Module):
  """`head(backbone(video), batch)`, with parameters `{"backbone": ..., "head": ...}`.

  Fields:
    backbone: a model of `vu_jax/models`, video to features.
    head: a task's head, features (and the batch, such as text for teacher forcing) to named outputs.
    frozen: the backbone is not trained: it works as in evaluation (no dropout, stored statistics) and gets no gradient.
    mean, std: per channel, in units of full scale (0..1); the network sees (pixel / 255 - mean) / std.
    seen: the backbone sees these "frames", their "differences" to the frame before (zero at the first), or "both" as
      2 C channels. Differences show motion at once, where a network must find it first, and hide still backgrounds.
      They need T >= 2.
  """

  backbone: nn.Module
  head: nn.Module
  frozen: bool = False
  mean: tuple[float, ...] = (0.5, 0.5, 0.5)
  std: tuple[float, ...] = (0.25, 0.25, 0.25)
  seen: Seen = "frames"

  def __call__(self, batch: Mapping[str, Any], *, train: bool) -> dict[str, Array]:
    """Named outputs of a batch; raises UserError for a clip that is too short for a difference."""
    frames = batch["video"].shape[1]
    if self.seen != "frames" and frames < 2:
      raise UserError(f'config.pixels.seen = "{self.seen}" needs clips of at least 2 frames, not {frames}')
    video, _ = seen(self.seen, normalize(batch["video"], self.mean, self.std), None)
    features = self.backbone(video, train=train and not self.frozen)
    if self.frozen:
      features = jax.lax.stop_gradient(features)
    return self.head(features, batch, train=train)

  @nn.nowrap
  def initial_state(self, batch: int, height: int, width: int) -> State:
    """The state before the first frame, of a backbone that can stream, for frames of height x width [px]."""
    return {"last_frame": None, "backbone": self.backbone.initial_state(batch, height, width)}

  def stream(self, state: State, batch: Mapping[str, Any]) -> tuple[State, dict[str, Array]]:
    """Continues from `state` with the next frames, as in evaluation.

    Returns:
      The state behind them, and the outputs; those of the head are of all frames so far.
    """
    video, last_frame = seen(self.seen, normalize(batch["video"], self.mean, self.std), state["last_frame"])
    backbone, features = self.backbone.stream(state["backbone"], video)
    return {"last_frame": last_frame, "backbone": backbone}, self.head(features, batch, train=False)


def normalize(
  video: UInt8[Array, "B T H W C"], mean: tuple[float, ...], std: tuple[float, ...]
) -> Float[Array, "B T H W C"]:
  """uint8 pixels 0..255 to floats around zero: the one place where pixels become floats."""
  return (video.astype(jnp.float32) / 255 - jnp.asarray(mean)) / jnp.asarray(std)


def seen(
  what: Seen, video: Float[Array, "B T H W C"], last_frame: Float[Array, "B 1 H W C"] | None
) -> tuple[Float[Array, "B T H W D"], Float[Array, "B 1 H W C"] | None]:
  """The frames, their differences to the frame before, or both as 2 C channels; and what to remember of them.

  Args:
    what: see `glossary.Seen`.
    video: the next frames.
    last_frame: the frame before them. None = there is none: the first difference is zero, as if that frame stood still.

  Returns:
    What the backbone sees, and the `last_frame` of the frames that follow (None where no difference is taken).
  """
  if what == "frames":
    return video, None
  before = jnp.concatenate([video[:, :1] if last_frame is None else last_frame, video[:, :-1]], axis=1)
  change = video - before
  return (change if what == "differences" else jnp.concatenate([video, change], axis=-1)), video[:, -1:]
