"""Damages small drawn videos in many ways, and reads each of them in every way: python tests/bad_files.py 300

Prints a line of JSON: the worst time of a file, how memory grew, and the files that were answered otherwise than by
frames or by one line. A file that hangs ends the process with a traceback; the last number printed to stderr names it.
"""

import faulthandler
import json
import pathlib
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from films import film
from test_decode import moving, write

from vu_jax.data.audio.track import read_track
from vu_jax.data.video.decode import decode_frames, iterate_frames, probe
from vu_jax.data.video.packets import VideoError
from vu_jax.data.video.transcode import encode_video, transcode

TIMEOUT_S = 100.0  # of one file, which takes milliseconds; the machine may be busy
GOP = {"g": "8", "bf": "2"}
SOUND = {
  "h264.mp4": ("libx264", GOP),
  "h264.mkv": ("libx264", GOP),
  "mpeg4.avi": ("mpeg4", GOP),
  "mpeg2.ts": ("mpeg2video", GOP),
  "vp8.webm": ("libvpx", {"deadline": "realtime", "cpu-used": "8"}),
}


def sound_files(folder: pathlib.Path) -> list[bytes]:
  """Videos of 16 frames of 48x64 pixels, in several containers, one with sound, one of our own store."""
  found = [
    write(folder / name, moving(16), codec, options=options).read_bytes() for name, (codec, options) in SOUND.items()
  ]
  heard = film(folder / "heard.mp4", ("aac", 16000, "mono"), flash=5, times_ms=range(0, 640, 40)).read_bytes()
  return [*found, heard, encode_video(moving(16), 25.0).video]


def cut(rng: np.random.Generator, content: bytearray) -> None:
  """Off at the end, anywhere."""
  del content[int(rng.integers(1, len(content))) :]


def flip(rng: np.random.Generator, content: bytearray) -> None:
  """From 1 to 64 bits anywhere."""
  for place in rng.integers(0, len(content), 2 ** int(rng.integers(0, 7))):
    content[place] ^= 1 << int(rng.integers(8))


def flip_index(rng: np.random.Generator, content: bytearray) -> None:
  """Whole bytes where the index of the file is: its first or last kilobyte."""
  start = 0 if rng.uniform() < 0.5 else max(len(content) - 1000, 0)
  for place in rng.integers(start, min(start + 1000, len(content)), int(rng.integers(1, 9))):
    content[place] = int(rng.integers(256))


def blank(rng: np.random.Generator, content: bytearray) -> None:
  """A stretch of zeros, as a download that was not finished leaves."""
  start = int(rng.integers(len(content)))
  size = min(int(rng.integers(1, 3000)), len(content) - start)
  content[start : start + size] = bytes(size)


def repeat(rng: np.random.Generator, content: bytearray) -> None:
  """A stretch that is there twice, so that all behind it lies elsewhere."""
  start = int(rng.integers(len(content)))
  content[start:start] = content[start : start + int(rng.integers(1, 3000))]


DAMAGES: tuple[Callable[[np.random.Generator, bytearray], None], ...] = (cut, flip, flip_index, blank, repeat)


def bad_file(number: int, sound: list[bytes]) -> bytes:
  """The file with this number: every kind of damage to every container within 35 numbers, in other places each time."""
  content = bytearray(sound[number % len(sound)])
  DAMAGES[number % len(DAMAGES)](np.random.default_rng(number), content)
  return bytes(content)


def readings(content: bytes) -> Iterator[Callable[[], Any]]:
  """All ways to read a video."""
  yield lambda: probe(content)
  yield lambda: decode_frames(content, np.array([0, 5, 15]))
  yield lambda: sum(1 for _ in iterate_frames(content, short_side=32))
  yield lambda: sum(1 for _ in iterate_frames(content, start_s=0.3, strict=True))
  yield lambda: transcode(content, short_side=32)
  yield lambda: read_track(content, 8000)


def answer(read: Callable[[], Any]) -> str:
  """ "frames", "refused", or what should not happen."""
  try:
    read()
  except VideoError as error:
    text = str(error)
    return "refused" if "\n" not in text and 5 < len(text) < 200 else f"an error that is no line: {text!r}"
  except Exception as error:
    return f"{type(error).__name__}: {error}"
  return "frames"


def memory_mb() -> float:
  """Resident memory of this process."""
  return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


def main(count: int) -> dict[str, Any]:
  """Reads `count` bad files."""
  with tempfile.TemporaryDirectory() as folder:
    sound = sound_files(pathlib.Path(folder))
  answers, wrong, worst_s, memory = Counter[str](), {}, 0.0, []
  for number in range(count):
    print(number, file=sys.stderr, flush=True)
    faulthandler.dump_traceback_later(TIMEOUT_S, exit=True)
    start = time.perf_counter()
    content = bad_file(number, sound)
    for way, read in enumerate(readings(content)):
      said = answer(read)
      answers[said if said in ("frames", "refused") else "wrong"] += 1
      if said not in ("frames", "refused"):
        wrong[f"{number}/{way}"] = said
    worst_s = max(worst_s, time.perf_counter() - start)
    memory.append(memory_mb())
  faulthandler.cancel_dump_traceback_later()
  grown = memory[-1] - max(memory[: count // 3 + 1])  # the first files fill caches
  figures = {"worst_s": round(worst_s, 2), "memory_mb": round(memory[-1], 1), "grown_mb": round(grown, 1)}
  return {"files": count, "answers": answers, "wrong": wrong, **figures}


if __name__ == "__main__":
  print(json.dumps(main(int(sys.argv[1]))))
