"""Films with a flash in the picture and a click in the sound at the same moment, in any container."""

import pathlib
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np

FRAMES = 40


def film(
  path: pathlib.Path,
  sound: tuple[str, int, str] | None = ("pcm_s16le", 16000, "mono"),
  *,
  flash: int = 20,
  sound_s: float = 0.0,
  video_s: float = 0.0,
  times_ms: Sequence[int] = tuple(range(0, 40 * FRAMES, 40)),
  samples: np.ndarray | None = None,
  lost: range = range(0),
) -> pathlib.Path:
  """Writes dark frames with a flash, and silence with a click at the moment of the flash.

  Args:
    path: its ending chooses the container.
    sound: codec, rate and channels; None = no sound track.
    flash: number of the bright frame.
    sound_s, video_s: when the two streams begin [s].
    times_ms: of the frames, since the first one.
    samples: other sound instead.
    lost: packets of sound that are left out.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  with av.open(str(path), "w") as container:
    codec = {".webm": "libvpx", ".avi": "mpeg4"}.get(path.suffix, "libx264")
    video: Any = container.add_stream(codec, rate=25, options={"g": "10", "bf": "0" if path.suffix == ".avi" else "2"})
    video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
    video.codec_context.thread_count = 1
    if path.suffix != ".avi":
      video.codec_context.time_base = Fraction(1, 1000)
    track: Any = container.add_stream(sound[0], rate=sound[1], layout=sound[2]) if sound else None
    packets = []
    for number, time_ms in enumerate(times_ms):
      rgb = np.full((48, 64, 3), 250 if number == flash else 20, np.uint8)
      picture = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p")
      picture.pts, picture.time_base = round(1000 * video_s) + time_ms, Fraction(1, 1000)
      packets += video.encode(picture)
    packets += video.encode(None)
    if sound:
      _, rate, layout = sound
      if samples is None:
        samples = np.zeros(round((times_ms[-1] / 1000 + 0.2) * rate), np.float32)
        click = round((video_s + times_ms[flash] / 1000 - sound_s) * rate)
        samples[click : click + max(rate // 8000, 1)] = 0.9
      heard = []
      for start in range(0, len(samples), 1024):
        piece = np.repeat(samples[None, start : start + 1024], 1 + (layout == "stereo"), axis=0)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece), format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, round(sound_s * rate) + start, Fraction(1, rate)
        heard += track.encode(frame)
      heard += track.encode(None)
      packets += [packet for number, packet in enumerate(heard) if number not in lost]
    for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
      container.mux(packet)
  return path
