"""The videos that the loader is measured on: drawn textures that move, encoded as data sets ship them."""

import functools
import pathlib
import tempfile
from fractions import Fraction

import av
import cv2
import numpy as np

from vu_jax.data.builders.video_folder import Options as Folder
from vu_jax.data.prepare import prepare
from vu_jax.data.source import PreparedSource
from vu_jax.data.video.stores import Store

SIZES = ((240, 320), (256, 340))  # (height, width) [px]
FRAMES = (110, 150, 190, 230)
FPS = 25
_GOP = "250"  # x264's default: a keyframe every ten seconds


@functools.cache
def folder() -> pathlib.Path:
  """Class folders with eight H.264 videos, 320x240 and 340x256, crf 23; gone with the program."""
  root = pathlib.Path(_kept().name)
  for number, count in enumerate(FRAMES * 2):
    size = SIZES[number % len(SIZES)]
    path = root / f"class{number % 2}" / f"clip{number}.mp4"
    path.parent.mkdir(exist_ok=True)
    write(path, draw(np.random.default_rng(number), count, size))
  return root


@functools.cache
def prepared(store: Store, root: pathlib.Path) -> PreparedSource:
  """The videos below `root` in a store; gone with the program."""
  options = Folder(root=str(root), store=store, short_side=128, test_frac=0.0)
  return PreparedSource(prepare("video_folder", options, pathlib.Path(_stores().name)), "train")


@functools.cache
def _stores() -> tempfile.TemporaryDirectory:
  return tempfile.TemporaryDirectory(prefix="loader_benchmark_stores_")


@functools.cache
def _kept() -> tempfile.TemporaryDirectory:
  return tempfile.TemporaryDirectory(prefix="loader_benchmark_")


def draw(rng: np.random.Generator, count: int, size: tuple[int, int]) -> np.ndarray:
  """(count H W 3): a window that pans and zooms over a texture, sprites that cross it, and a camera's noise.

  Encoded, it is as large as real footage: about 2 KiB per frame as H.264 and 2.7 KiB in the store "intra".
  """
  height, width = size
  scene = np.zeros((2 * height, 2 * width, 3), np.float32)
  for octave in range(1, 6):
    coarse = rng.standard_normal((2 * height >> (7 - octave), 2 * width >> (7 - octave), 3), np.float32)
    scene += cv2.resize(coarse, (2 * width, 2 * height), interpolation=cv2.INTER_CUBIC) / octave**2
  scene = np.clip(128 + 45 * scene, 0, 255).astype(np.uint8)
  places, speeds = rng.uniform(0, 1, (10, 2)) * (width, height), rng.uniform(-4, 4, (10, 2))
  radii, colours = rng.integers(8, 25, 10), rng.integers(0, 256, (10, 3))
  angle = rng.uniform(0, 2 * np.pi)
  frames = []
  for i in range(count):
    zoom = 1.2 + 0.2 * np.sin(i / 40)
    centre = (width + 60 * np.cos(angle + i / 60), height + 60 * np.sin(angle + i / 50))
    part = cv2.getRectSubPix(scene, (int(width * zoom), int(height * zoom)), centre)
    shown = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)
    for (x, y), r, colour in zip(
      (places + i * speeds) % (width, height), radii.tolist(), colours.tolist(), strict=True
    ):
      cv2.ellipse(shown, (int(x), int(y)), (r, r // 2), i * 7, 0, 360, colour, -1)
    noise = rng.integers(-9, 10, (height, width, 1))
    frames.append(np.clip(shown + noise, 0, 255).astype(np.uint8))
  return np.stack(frames)


def write(path: pathlib.Path, frames: np.ndarray) -> None:
  """H.264 in MP4 with x264's defaults."""
  options = {"crf": "23", "g": _GOP, "preset": "medium"}
  with av.open(path, "w") as container:
    stream = container.add_stream("libx264", rate=Fraction(FPS), options=options)
    stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
    for rgb in frames:
      container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
    container.mux(stream.encode(None))
