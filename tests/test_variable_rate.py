"""Videos of variable frame rate: their timestamps are kept, and clips by seconds show the right moments, upright."""

import pathlib
from typing import Any

import numpy as np
import pytest
from test_decode import write

from vu_jax.data.builders.video_folder import Options
from vu_jax.data.clips import Clip, windows
from vu_jax.data.clips_time import uneven_times
from vu_jax.data.loader import load_clip
from vu_jax.data.prepare import prepare
from vu_jax.data.source import PreparedSource
from vu_jax.data.video.decode import iterate_frames, probe
from vu_jax.data.video.stores import Store
from vu_jax.data.video.transcode import transcode
from vu_jax.data.video.view import Pixels

BLOCK, ROWS, COLUMNS = 16, 6, 4  # of a portrait frame: 64 pixels wide, 96 high
PIXELS = Pixels(crop=64)
# As a phone films: 30 per second, frames dropped now and then, and half the rate once it gets dark.
STEPS_MS = np.random.default_rng(3).choice([33, 34, 67], 30).tolist() + [67] * 15 + [200, 33, 33]
TIMES_MS = [0, *np.cumsum(STEPS_MS).tolist()]
EVEN_MS = [40 * number for number in range(41)]


def drawn(time_ms: int) -> np.ndarray:
  """A portrait frame whose blocks, read like a page, are the bits of its time, the highest first."""
  bits = [time_ms >> place & 1 for place in reversed(range(ROWS * COLUMNS))]
  blocks = np.array(bits, np.uint8).reshape(ROWS, COLUMNS) * 200 + 28
  return np.repeat(np.kron(blocks, np.ones((BLOCK, BLOCK), np.uint8))[..., None], 3, axis=2)


def read(frame: np.ndarray) -> int:
  """The time [ms] in the middle square of a frame: the four middle rows, see `shifted`."""
  means = frame[..., 1].reshape(COLUMNS, BLOCK, COLUMNS, BLOCK).mean(axis=(1, 3))
  assert ((means < 70) | (means > 180)).all()
  return int("".join("1" if mean > 128 else "0" for mean in means.ravel()), 2)


def film(path: pathlib.Path, times_ms: list[int], degrees: int = 90) -> pathlib.Path:
  """Writes it as a phone does: lying on its side, with a note how to turn it."""
  path.parent.mkdir(parents=True, exist_ok=True)
  lying = np.stack([np.rot90(drawn(shifted(t)), -degrees // 90) for t in times_ms])
  return write(path, lying, times_ms=times_ms, options={"g": "12", "crf": "10"}, rotation=degrees)


def shifted(time_ms: int) -> int:
  """Its bits one row further up: the last row is not in the middle square of a frame."""
  return time_ms << COLUMNS


class Even:
  """A source that has lost its timestamps."""

  def __init__(self, source: PreparedSource):
    self.source, self.label_names = source, source.label_names

  def __len__(self) -> int:
    return len(self.source)

  def __getitem__(self, index: int) -> dict[str, Any]:
    return {key: value for key, value in self.source[index].items() if key != "times_s"}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """Two classes of two films: those of class a of variable rate, those of class b not."""
  root = tmp_path_factory.mktemp("phone")
  film(root / "a" / "1.mov", TIMES_MS)
  film(root / "a" / "2.mov", TIMES_MS, degrees=270)
  film(root / "b" / "1.mov", EVEN_MS)
  film(root / "b" / "2.mov", EVEN_MS, degrees=270)
  return root


def clips_of(root: pathlib.Path, rows: list[str], store: Store, data_dir: pathlib.Path) -> dict[str, Any]:
  """id -> (source, index) of the prepared rows "path,label,split,start_s,end_s"."""
  table = data_dir / "t.csv"
  table.write_text("\n".join(["path,label,split,start_s,end_s", *rows]))
  directory = prepare("video_folder", Options(root=str(root), csv=str(table), store=store), data_dir)
  sources = [PreparedSource(directory, split) for split in ("train", "test")]
  return {source[i]["id"]: (source, i) for source in sources for i in range(len(source))}


def moments(clip: Clip, times_ms: list[int]) -> list[int]:
  """The frames that begin nearest to the moments of the clip in the middle of the video [ms]."""
  step_ms = 1000 / clip.rate_hz
  room_ms = times_ms[-1] - times_ms[0] - (clip.num_frames - 1) * step_ms
  places = times_ms[0] + room_ms / 2 + np.arange(clip.num_frames) * step_ms
  return [min(times_ms, key=lambda t, place=place: (abs(t - place), -t)) for place in places]


def seen(source: Any, index: int, clip: Clip) -> list[int]:
  return [read(frame) for frame in load_clip(source, clip, PIXELS, index, None)["video"]]


@pytest.mark.parametrize("store", ["intra", "jpeg", "raw", "source"])
def test_clips_by_seconds_show_the_right_moments(store: Store, videos: pathlib.Path, tmp_path: pathlib.Path):
  """Each frame of a clip is the one that begins nearest to its moment, upright, in every store.

  At a constant rate, which is all that the mean rate says, most frames would be others.
  """
  rows = ["a/1.mov,a,train,,", "a/2.mov,a,test,,", "b/1.mov,b,train,,", "b/2.mov,b,test,,"]
  clip = Clip(num_frames=8, sampling="rate", rate_hz=6.25)
  found = clips_of(videos, rows, store, tmp_path)
  for name, (source, index) in found.items():
    times_ms = TIMES_MS if name[0] == "a" else EVEN_MS
    example = source[index]
    assert int(example["num_frames"]) == len(times_ms)
    assert seen(source, index, clip) == moments(clip, times_ms)
    if name[0] == "a":
      np.testing.assert_allclose(example["times_s"], np.array(times_ms) / 1000, atol=1e-6)
      blind = seen(Even(source), index, clip)
      assert sum(a != b for a, b in zip(blind, moments(clip, times_ms), strict=True)) >= 6
    else:
      assert "times_s" not in example
  assert len(found) == 4


def test_a_part_has_times_of_its_own(videos: pathlib.Path, tmp_path: pathlib.Path):
  """A clip that is cut out of a longer video begins at 0, and shows what the video shows in that part."""
  rows = [f"{name}.mov,{name[0]},{split},0.5,1.8" for name, split in (("a/1", "train"), ("a/2", "test"))]
  rows += ["b/1.mov,b,train,0.2,1.2", "b/2.mov,b,test,0.2,1.2"]
  clip = Clip(num_frames=4, sampling="rate", rate_hz=6.25)
  for name, (source, index) in clips_of(videos, rows, "intra", tmp_path).items():
    times_ms = [t for t in TIMES_MS if 500 <= t < 1800] if name[0] == "a" else EVEN_MS[5:30]
    assert int(source[index]["num_frames"]) == len(times_ms)
    assert seen(source, index, clip) == moments(clip, times_ms)


def test_a_stored_file_has_the_timestamps_itself(videos: pathlib.Path, tmp_path: pathlib.Path):
  """The stored MP4 is a video of variable rate, too: whoever plays it sees each frame at its time."""
  rows = ["a/1.mov,a,train,,", "a/2.mov,a,test,,"]
  source, index = clips_of(videos, rows, "intra", tmp_path)["a/1.mov"]
  video = source[index]["video"]
  shown = [time_s for time_s, _ in iterate_frames(video)]
  np.testing.assert_allclose(shown, np.array(TIMES_MS) / 1000, atol=1e-4)
  assert probe(video).num_frames == len(TIMES_MS)


def test_windows_of_a_long_video(videos: pathlib.Path):
  """Clips by seconds that cover it: frames 160 ms apart, from the first frame to the last, half of each shared."""
  info = probe(videos / "a" / "1.mov")
  times_s = np.array(info.times_s)
  np.testing.assert_allclose(times_s, np.array(TIMES_MS) / 1000, atol=1e-4)
  clip = Clip(num_frames=4, sampling="rate", rate_hz=6.25)
  found = windows(clip, info.num_frames, info.fps, times_s=times_s)
  room = times_s[-1] - 0.48
  starts = np.linspace(0, room, len(found))
  assert room / 0.24 <= len(found) - 1 < room / 0.24 + 1
  for start, numbers in zip(starts, found, strict=True):
    away = np.abs(times_s[None] - (start + np.arange(4) * 0.16)[:, None])
    np.testing.assert_allclose(away[range(4), numbers], away.min(1), atol=1e-9)
  assert (found[0][0], found[-1][-1]) == (0, len(times_s) - 1)
  parts = windows(Clip(num_frames=2, sampling="segments", span_s=1.0), info.num_frames, info.fps, times_s=times_s)
  assert [parts[0].tolist(), len(parts)] == [[5, 17], 5]  # on the screen at 0.25 s and 0.75 s
  by_frames = Clip(num_frames=4, stride_f=2)
  plain = windows(by_frames, info.num_frames, info.fps)
  for a, b in zip(windows(by_frames, info.num_frames, info.fps, times_s=times_s), plain, strict=True):
    np.testing.assert_array_equal(a, b)


def test_timestamps_that_leap_by_hours_can_be_stored(tmp_path: pathlib.Path):
  """An MP4 cannot say that a frame lasts for ten hours; the times that are stored beside it can."""
  for times_ms in ([0, 40, 80, 36_000_000, 36_000_040], [0, 36_000_000]):
    path = write(tmp_path / "leap.mkv", np.stack([drawn(n) for n in range(len(times_ms))]), times_ms=times_ms)
    stored = transcode(path, short_side=64)
    times_s = stored.times_s or np.arange(2) / stored.fps
    np.testing.assert_allclose(times_s, np.array(times_ms) / 1000, rtol=1e-6)
    assert len(list(iterate_frames(stored.video))) == len(times_ms)


def test_uneven_times_by_hand():
  """Rounding to milliseconds is no variable rate; one frame that is 3 ms late is; so is a rate that drifts off."""
  exact = np.arange(60) / 29.97 + 5
  assert uneven_times(np.round(exact, 3).tolist(), 29.97) == ()
  late = exact.copy()
  late[7] += 0.003
  np.testing.assert_allclose(uneven_times(late.tolist(), 29.97), late - 5)
  assert uneven_times(exact.tolist(), 30.0) == ()  # 1.97 ms late at the end
  assert len(uneven_times((np.arange(70) / 29.97).tolist(), 30.0)) == 70
  assert uneven_times([], 25.0) == ()
