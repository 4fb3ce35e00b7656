"""How others read a clip: the wanted frames of a file, resized, cropped, RGB; one thread, the fastest way of each.

A reader takes a `Wanted` and returns the clip (T crop crop 3) uint8.
"""

import importlib
import pathlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import av
import cv2
import numpy as np

from experiments.benchmarks.loader.videos import FPS
from experiments.benchmarks.timing import AbsentError
from vu_jax.data.video.picture import resize
from vu_jax.data.video.view import View, window_of


@dataclass(frozen=True)
class Wanted:
  """One clip: the file, the numbers of its frames (rising), and the view of them."""

  path: pathlib.Path
  frames: np.ndarray
  view: View


Reader = Callable[[Wanted], np.ndarray]


def readers() -> dict[str, Callable[[], Reader]]:
  """name -> what gives the reader, or raises `AbsentError`."""
  return {"decord": decord, "torchcodec": torchcodec, "opencv": lambda: read_by_opencv}


def decord() -> Reader:
  """decord 0.6, one thread."""
  module = _module("decord")

  def read(wanted: Wanted) -> np.ndarray:
    video = module.VideoReader(str(wanted.path), num_threads=1)
    return _seen(video.get_batch(wanted.frames).asnumpy(), wanted.view)

  return read


def torchcodec() -> Reader:
  """torchcodec, one thread, seeking approximately, which is its faster mode."""
  decoders = _module("torchcodec.decoders")

  def read(wanted: Wanted) -> np.ndarray:
    decoder = decoders.VideoDecoder(
      str(wanted.path), seek_mode="approximate", num_ffmpeg_threads=1, dimension_order="NHWC"
    )
    return _seen(decoder.get_frames_at(indices=wanted.frames.tolist()).data.numpy(), wanted.view)

  return read


def read_by_opencv(wanted: Wanted) -> np.ndarray:
  """OpenCV: a seek to the first frame, then grabs without conversion between the wanted ones."""
  video = cv2.VideoCapture(str(wanted.path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
  try:
    video.set(cv2.CAP_PROP_POS_FRAMES, int(wanted.frames[0]))
    at, clip = int(wanted.frames[0]), []
    for frame in wanted.frames:
      while at < frame:
        video.grab()
        at += 1
      _, bgr = video.read()
      at += 1
      clip.append(cv2.cvtColor(_window(bgr, wanted.view), cv2.COLOR_BGR2RGB))
    return np.stack(clip)
  finally:
    video.release()


def decode_only(wanted: Wanted) -> np.ndarray:
  """The limit: FFmpeg decodes from the keyframe before the clip to its last frame, and nothing is done with that."""
  with av.open(str(wanted.path)) as container:
    stream = container.streams.video[0]
    stream.thread_type, stream.codec_context.thread_count = "NONE", 1
    first, last = (int(frame / (FPS * (stream.time_base or 1))) for frame in wanted.frames[[0, -1]].tolist())
    container.seek(first, stream=stream)
    for picture in container.decode(stream):
      if (picture.pts or 0) >= last:
        break
  return np.zeros(0, np.uint8)


def _module(name: str) -> Any:
  try:
    return importlib.import_module(name)
  except (ImportError, OSError, RuntimeError) as error:
    raise AbsentError(f"not installed: {str(error).splitlines()[0][:80]}") from error


def _seen(video: np.ndarray, view: View) -> np.ndarray:
  return np.stack([_window(frame, view) for frame in video])


def _window(frame: np.ndarray, view: View) -> np.ndarray:
  rows, columns = window_of(view, frame.shape[:2])
  return resize(np.ascontiguousarray(frame[rows, columns]), view.size)
