"""The suite "loader": clips from every store against decord, torchcodec and OpenCV, which read the source files.

All use one core, and all read the same frames and the same windows. A row's time is that of eight clips. The baseline
is FFmpeg's bare decoding of the source files.
"""

from collections.abc import Callable, Mapping
from functools import partial

import cv2
import numpy as np

from experiments.benchmarks.loader import videos
from experiments.benchmarks.loader.readers import Reader, Wanted, decode_only, readers
from experiments.benchmarks.timing import Contender, Options, Row
from vu_jax.data.clips import Clip, frame_numbers
from vu_jax.data.video.decode import decode_frames
from vu_jax.data.video.stores import Store, decode_clip
from vu_jax.data.video.view import Pixels, choose_view

STORES: tuple[Store, ...] = ("source", "intra", "jpeg", "raw")
SAMPLERS = {
  "16 frames at stride 4": Clip(num_frames=16, stride_f=4),
  "16 frames in a row": Clip(num_frames=16),
  "8 segments": Clip(num_frames=8, sampling="segments"),
}
PIXELS = Pixels(short_side=128, crop=112)
BARE = "bare decoding"
# Readers differ in colour conversion and in the order of cropping and resizing; the mean colours hardly do.
TOLERANCE = 0.03


def cases(options: Options) -> list[Row]:
  """All rows: every store, with every sampler."""
  del options  # nothing to choose
  return [
    Row(
      name=f"{store} store, {name}",
      kind="clips of 112x112 px",
      pass_="read",
      dtype="uint8",
      shapes={"clips": (len(videos.FRAMES) * 2, clip.num_frames, PIXELS.crop, PIXELS.crop, 3)},
      flops=lambda: 0.0,
      tolerance=TOLERANCE,
      contenders=partial(contenders, store, clip),
      peers=tuple(readers()),
      baseline=BARE,
    )
    for name, clip in SAMPLERS.items()
    for store in STORES
  ]


def contenders(store: Store, clip: Clip) -> Mapping[str, Callable[[], Contender]]:
  """Ours from the store; the others, and bare decoding, from the source files."""
  found: dict[str, Callable[[], Contender]] = {"ours": partial(ours, store, clip), BARE: partial(bare, clip)}
  return found | {name: partial(theirs, get, clip) for name, get in readers().items()}


def ours(store: Store, clip: Clip) -> Contender:
  """Record, frames and window of each clip, as the loader reads them."""
  source = videos.prepared(store, videos.folder())
  places = {source[i]["id"]: i for i in range(len(source))}
  wanted = wanted_clips(clip)

  def read(one: Wanted) -> np.ndarray:
    example = source[places[str(one.path.relative_to(videos.folder()))]]
    return decode_clip(example["video"], one.frames, one.view)

  return _contender(read, wanted, store)


def theirs(get: Callable[[], Reader], clip: Clip) -> Contender:
  cv2.setNumThreads(1)
  return _contender(get(), wanted_clips(clip), "")


def bare(clip: Clip) -> Contender:
  """Its outputs are ours, since it has none."""
  wanted = wanted_clips(clip)
  found = _contender(decode_only, wanted, "")
  read = [decode_frames(one.path, one.frames, one.view) for one in wanted]
  return Contender(found.start, found.wait, lambda _: _colours(read))


def wanted_clips(clip: Clip) -> list[Wanted]:
  """A random start and window in every video, the same for all."""
  rng, wanted = np.random.default_rng(0), []
  for number, path in enumerate(sorted(videos.folder().glob("*/*.mp4"))):
    count = videos.FRAMES[int(path.stem.removeprefix("clip")) % len(videos.FRAMES)]
    height, width = videos.SIZES[int(path.stem.removeprefix("clip")) % len(videos.SIZES)]
    view = choose_view(PIXELS, height, width, rng)
    wanted.append(Wanted(path, frame_numbers(clip, count, videos.FPS, np.random.default_rng(number)), view))
  return wanted


def _contender(read: Reader, wanted: list[Wanted], form: str) -> Contender:
  return Contender(lambda: [read(one) for one in wanted], lambda result: result, _colours, form)


def _colours(clips: list[np.ndarray]) -> list[np.ndarray]:
  """Mean colours of a 4x4 grid in every frame."""
  return [
    np.stack([cv2.resize(frame, (4, 4), interpolation=cv2.INTER_AREA) for frame in clip]).astype(np.float32)
    for clip in clips
  ]
