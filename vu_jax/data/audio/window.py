"""Which stretch of the sound belongs to a clip."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from vu_jax.data.audio.store import Sound, read_sound
from vu_jax.data.clips import Clip
from vu_jax.errors import UserError
from vu_jax.glossary import CountOrZero, PositiveOrZero


@dataclass(frozen=True, kw_only=True)
class Audio:
  """What batches hold of the sound; datasets keep it if they are prepared with `config.data.audio`.

  Fields:
    rate_hz: samples per second, of one channel; 0 = batches have no sound.
    window_s: length; 0 = as long as the clip, whose frames must then be a fixed time apart. It lies around the middle
      of the clip's frames, and keeps its own speed whatever that of the frames.
    missing: a video without sound is an "error", or has "silence".
  """

  rate_hz: CountOrZero = 0
  window_s: PositiveOrZero = 0.0
  missing: Literal["error", "silence"] = "error"

  def __post_init__(self) -> None:
    if not self.rate_hz and (self.window_s or self.missing != "error"):
      raise UserError(
        "rate_hz = 0: without sound in the batches, window_s and missing say nothing; set it, or leave them"
      )


NO_AUDIO = Audio()


def num_samples(audio: Audio, clip: Clip) -> int:
  """S: samples per clip.

  Raises:
    UserError: the length of the clips is not known, or they begin again, which sound cannot.
  """
  if clip.short == "loop":
    raise UserError('config.clip.short = "loop": clips with sound cannot begin again; set it to "repeat" or "centre"')
  step_s = 1 / clip.rate_hz if clip.sampling == "rate" else clip.stride_s if clip.sampling == "dense" else 0.0
  if not audio.window_s and not step_s:
    raise UserError(
      "config.audio.window_s = 0: the clips take frames that are not a fixed time apart; set it to a number of "
      "seconds, or set config.clip.stride_s"
    )
  return max(round((audio.window_s or clip.num_frames * step_s) * audio.rate_hz), 1)


def check_sound(audio: Audio, stored: Mapping[str, Any] | None, num_clips: int, split: str) -> None:
  """Raises UserError if a split has too little sound; `stored` is what its facts say of it."""
  if not audio.rate_hz:
    return
  if stored is None:
    raise UserError(
      f"config.audio.rate_hz = {audio.rate_hz}: the dataset was prepared without sound; "
      'set config.data.audio = "flac", or config.audio.rate_hz = 0'
    )
  if audio.missing == "error" and stored["without"]:
    raise UserError(
      f"{num_clips - stored['clips']} of {num_clips} {split} videos have no sound (first: {stored['without'][0]}); "
      'set config.audio.missing = "silence", or take them out'
    )


def clip_sound(
  content: bytes, audio: Audio, clip: Clip, times_s: Float[np.ndarray, " T"], frame_s: float
) -> dict[str, np.ndarray]:
  """The sound of a clip as a batch holds it: `audio` and `audio_valid`; that of a reversed clip is reversed, too.

  Args:
    content: of the record; empty = the video has no sound.
    audio, clip: the rules.
    times_s: when each frame of the clip begins, since the first frame of the video [s].
    frame_s: how long a frame lasts [s], for clips of a single one.

  Raises:
    VideoError: the record is damaged.
    UserError: there is no sound.
  """
  if not content:
    if audio.missing == "error":
      raise UserError('it has no sound; set config.audio.missing = "silence", or take it out')
    return silence(audio, clip)
  count = num_samples(audio, clip)
  is_reversed = bool(times_s[0] > times_s[-1])
  middle_s = middle(times_s[::-1] if is_reversed else times_s, frame_s)
  found = read_sound(content, middle_s - count / audio.rate_hz / 2, audio.rate_hz, count)
  if is_reversed:
    return _as_keys(Sound(found.samples[::-1].copy(), count - found.last, count - found.first))
  return _as_keys(found)


def silence(audio: Audio, clip: Clip) -> dict[str, np.ndarray]:
  """What a batch holds where there is no sound."""
  return _as_keys(Sound(np.zeros(num_samples(audio, clip), np.float32), 0, 0))


def _as_keys(sound: Sound) -> dict[str, np.ndarray]:
  return {"audio": sound.samples, "audio_valid": np.array([sound.first, sound.last], np.int32)}


def middle(times_s: Float[np.ndarray, " T"], frame_s: float) -> float:
  """The middle [s] of what T frames in order show, each until the next one.

  Where a video was too short, its first or last frame is repeated; the repeats count as if the video went on.
  """
  number = len(times_s)
  first = int(np.searchsorted(times_s, times_s[0], side="right")) - 1
  last = int(np.searchsorted(times_s, times_s[-1], side="left"))
  step_s = (times_s[last] - times_s[first]) / (last - first) if last > first else frame_s
  begin_s = times_s[first] - first * step_s
  end_s = times_s[last] + (number - last) * step_s
  return float(begin_s + end_s) / 2
