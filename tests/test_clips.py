"""Which frames and pixels a clip takes: by hand, and properties that hold for any clip of any video."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vu_jax.data.clips import Clip, check_length, crop_corner, frame_numbers, span, windows
from vu_jax.errors import UserError

clips = st.builds(
  Clip,
  num_frames=st.integers(1, 20),
  sampling=st.sampled_from(["dense", "segments"]),
  stride_f=st.integers(1, 8),
  stride_s=st.just(0.0) | st.floats(0.005, 1),
  span_s=st.just(0.0) | st.floats(0.1, 5),
  short=st.just("repeat"),
)
lengths, rates = st.integers(1, 200), st.floats(1, 120)
rngs = st.none() | st.integers(0, 9).map(np.random.default_rng)


def frames(clip: Clip, video_frames: int, fps: float = 25.0, seed: int | None = None) -> list[int]:
  rng = None if seed is None else np.random.default_rng(seed)
  return frame_numbers(clip, video_frames, fps, rng).tolist()


def test_dense_frames_by_hand():
  """4 frames, 2 apart, span 7: in a video of 10 one frame is left before and two behind; in one of 7 none is."""
  clip = Clip(num_frames=4, stride_f=2)
  assert span(clip, 10, 25.0) == 7
  assert frames(clip, 10) == [1, 3, 5, 7]
  assert frames(clip, 7) == [0, 2, 4, 6]
  assert frames(Clip(num_frames=1), 9) == [4]


def test_dense_frames_in_seconds_by_hand():
  """0.1 s at 24 frames per second are 2.4 frames: 0, 2.4, 4.8, 7.2 round to 0, 2, 5, 7, which spans 8 frames."""
  clip = Clip(num_frames=4, stride_f=7, stride_s=0.1)
  assert frames(clip, 8, 24.0) == [0, 2, 5, 7]
  assert frames(clip, 12, 24.0) == [2, 4, 7, 9]
  assert frames(clip, 31, 60.0) == [6, 12, 18, 24]


def test_frame_rates_that_floats_cannot_hold_are_no_obstacle():
  """16 frames, one frame's time apart, fit a video of 16 frames, though 24000/1001 Hz is stored rounded up."""
  clip = Clip(num_frames=16, stride_s=1001 / 24000)
  assert frames(clip, 16, float(np.float32(24000 / 1001))) == list(range(16))


def test_segments_by_hand():
  """Middles of four parts of 2.5 frames: 1.25, 3.75, 6.25, 8.75; half a second at 12 Hz is the 6 middle frames."""
  assert frames(Clip(num_frames=4, sampling="segments"), 10) == [1, 3, 6, 8]
  assert frames(Clip(num_frames=3, sampling="segments", span_s=0.5), 10, 12.0) == [3, 5, 7]


def test_short_videos_are_an_error_or_repeat_their_last_frame():
  """The message names both lengths; "repeat" keeps the frames there are, and the segments of 3 frames overlap."""
  with pytest.raises(UserError, match=r"of 8 frames spans 8 frames, but the video has 5: .*config\.clip"):
    frames(Clip(num_frames=8), 5)
  with pytest.raises(UserError, match="of 8 frames spans 15 frames, but the video has 14"):
    check_length(Clip(num_frames=8, stride_f=2), 14, 25.0)
  assert frames(Clip(num_frames=8, short="repeat"), 5) == [0, 1, 2, 3, 4, 4, 4, 4]
  assert frames(Clip(num_frames=8, short="repeat"), 5, seed=0) == [0, 1, 2, 3, 4, 4, 4, 4]
  assert frames(Clip(num_frames=6, sampling="segments", short="repeat"), 3) == [0, 0, 1, 1, 2, 2]


@given(clips, lengths, rates, rngs)
def test_any_clip_lies_inside_its_video(clip: Clip, video_frames: int, fps: float, rng: np.random.Generator | None):
  """T frame numbers, never decreasing, never outside the video."""
  numbers = frame_numbers(clip, video_frames, fps, rng)
  assert len(numbers) == clip.num_frames
  assert numbers[0] >= 0
  assert numbers[-1] < video_frames
  assert (np.diff(numbers) >= 0).all()


@given(clips, lengths, rates)
def test_evaluation_is_centred(clip: Clip, video_frames: int, fps: float):
  """Where the video is long enough, as many frames are left out before the clip as behind it, give or take one."""
  numbers = frame_numbers(clip, video_frames, fps, None)
  if span(clip, video_frames, fps) <= video_frames:
    before, behind = numbers[0], video_frames - 1 - numbers[-1]
    assert abs(before - behind) <= 1


@given(clips, lengths, rates, st.integers(0, 9))
def test_a_dense_clip_that_fits_is_never_cut(clip: Clip, video_frames: int, fps: float, seed: int):
  """Wherever it starts, the steps between its frames are the stride, rounded; no frame is repeated at the end."""
  stride = clip.stride_s * fps if clip.stride_s else clip.stride_f
  if clip.sampling == "dense" and span(clip, video_frames, fps) <= video_frames:
    numbers = np.array(frames(clip, video_frames, fps, seed))
    wanted = numbers[0] + np.arange(clip.num_frames) * stride
    np.testing.assert_array_less(np.abs(numbers - wanted), 0.5 + 1e-6)


def test_random_starts_are_uniform_over_the_video():
  """3 frames of 6 start at 0, 1, 2 or 3, each in a quarter of 400 draws, within 5 standard deviations of 8.7."""
  starts = Counter(frames(Clip(num_frames=3), 6, seed=i)[0] for i in range(400))
  assert set(starts) == {0, 1, 2, 3}
  assert max(abs(count - 100) for count in starts.values()) < 5 * 8.7


def test_random_segments_reach_every_frame():
  """Two segments of 7 frames are 3.5 frames each: the first gives frames 0 to 3, the second 3 to 6."""
  drawn = np.array([frames(Clip(num_frames=2, sampling="segments"), 7, seed=i) for i in range(300)])
  assert set(drawn[:, 0]) == {0, 1, 2, 3}
  assert set(drawn[:, 1]) == {3, 4, 5, 6}


def test_windows_by_hand():
  """Clips of 4 frames lie half a clip apart over 11 frames, the last one flush with the end."""
  found = [w.tolist() for w in windows(Clip(num_frames=4), 11, 25.0)]
  assert found == [[s, s + 1, s + 2, s + 3] for s in (0, 2, 4, 6, 7)]
  assert [w.tolist() for w in windows(Clip(num_frames=4, sampling="segments"), 10, 25.0)] == [[1, 3, 6, 8]]


@given(clips, lengths, rates)
def test_windows_cover_the_whole_video(clip: Clip, video_frames: int, fps: float):
  """Every frame lies in the span of some window; for neighbouring frames, in a window itself."""
  found = windows(clip, video_frames, fps)
  assert all(len(w) == clip.num_frames and w[0] >= 0 and w[-1] < video_frames for w in found)
  if clip.sampling == "dense":
    covered = {n for w in found for n in range(w[0], w[-1] + 1)}
    assert covered == set(range(video_frames)) or clip.num_frames == 1
    assert found[-1][-1] == video_frames - 1
    if clip.stride_f == 1 and not clip.stride_s:
      assert set(np.concatenate(found)) == set(range(video_frames))


def test_crop_corners():
  """The centre of 10x13 leaves 3 rows above and 4 columns at the left; random corners reach every place."""
  assert crop_corner(10, 13, 4, None) == (3, 4)
  assert crop_corner(4, 4, 4, np.random.default_rng(0)) == (0, 0)
  rng = np.random.default_rng(0)
  drawn = {crop_corner(5, 6, 4, rng) for _ in range(300)}
  assert drawn == {(top, left) for top in range(2) for left in range(3)}
