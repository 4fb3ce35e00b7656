"""What a network sees of a clip: its frames, how they change, or both."""

from typing import Literal, TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Float

from vu_jax.errors import UserError

Seen: TypeAlias = Literal["frames", "differences", "both"]
"""The field `input` of the models of time; differences show motion at once and hide still backgrounds.

A network that pools each frame before it looks at time never sees motion smaller than its stride without them; one
that recurs on maps must first find it (decision 10 in DESIGN.md).
"""


def seen(
  what: Seen, video: Float[Array, "B T H W C"], last_frame: Float[Array, "B 1 H W C"] | None
) -> tuple[Float[Array, "B T H W D"], Float[Array, "B 1 H W C"] | None]:
  """The frames, their differences to the frame before, or both as 2 C channels; and what to remember of them.

  Args:
    what: the field `input` of the model.
    video: the next frames.
    last_frame: the frame before them. None = there is none: the first difference is zero, as if that frame stood still.

  Returns:
    What the network sees, and the `last_frame` of the frames that follow (None where no difference is taken).
  """
  if what == "frames":
    return video, None
  before = jnp.concatenate([video[:, :1] if last_frame is None else last_frame, video[:, :-1]], axis=1)
  change = video - before
  return (change if what == "differences" else jnp.concatenate([video, change], axis=-1)), video[:, -1:]


def check_seen(model: str, what: Seen, frames: int) -> None:
  """Raises UserError when a whole clip is too short for a difference."""
  if what != "frames" and frames < 2:
    raise UserError(f"{model} with input='{what}' needs clips of at least 2 frames, not {frames}")
