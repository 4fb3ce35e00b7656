"""Which frames a clip takes: by hand, and properties that hold for any clip of any video."""

import dataclasses
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vu_jax.data.clips import Clip, check_length, frame_numbers, in_order, ordered, span, windows
from vu_jax.errors import UserError


def any_clip(sampling: str, rate_hz: float, **others: Any) -> Clip:
  return Clip(sampling=sampling, rate_hz=rate_hz if sampling == "rate" else 0.0, **others)


common: dict[str, Any] = dict(
  num_frames=st.integers(1, 20),
  rate_hz=st.floats(1, 60),
  stride_f=st.integers(1, 8),
  stride_s=st.just(0.0) | st.floats(0.005, 1),
)
clips = st.builds(
  any_clip,
  sampling=st.sampled_from(["dense", "rate", "segments"]),
  span_s=st.just(0.0) | st.floats(0.1, 5),
  short=st.sampled_from(["repeat", "centre"]),
  **common,
)
strided = st.builds(
  any_clip,
  sampling=st.sampled_from(["dense", "rate"]),
  short=st.sampled_from(["repeat", "loop", "centre"]),
  speed=st.sampled_from([(1.0, 1.0), (0.5, 2.0), (3.0, 3.0)]),
  jitter_frac=st.sampled_from([0.0, 0.5, 1.0]),
  reverse_frac=st.sampled_from([0.0, 0.5, 1.0]),
  **common,
)
# Gaps between frames from a fifth to five times the usual one, as phones record them.
tables = st.lists(st.floats(0.008, 0.2), min_size=0, max_size=80).map(lambda gaps: np.cumsum([0.0, *gaps]) + 7.0)
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


def test_overlap_by_hand():
  """Clips of 4 of 11 frames: side by side they start at 0, 4 and 7; three quarters shared, at every frame."""
  starts = {o: [int(w[0]) for w in windows(Clip(num_frames=4), 11, 25.0, o)] for o in (0.0, 0.75)}
  assert starts == {0.0: [0, 4, 7], 0.75: list(range(8))}
  with pytest.raises(ValueError, match="below 1"):
    windows(Clip(num_frames=4), 11, 25.0, 1.0)


def test_a_rate_by_hand():
  """4 frames at 10 Hz lie at 0, 0.1, 0.2, 0.3 s; of 1 s, 0.3 s are left on both sides at 25 Hz, and so at 50 Hz.

  At 25 Hz the last frame begins at 0.96 s, so the clip starts at 0.33 s: frames 8.25, 10.75, 13.25, 15.75.
  """
  clip = Clip(num_frames=4, sampling="rate", rate_hz=10.0)
  assert frames(clip, 25, 25.0) == [8, 11, 13, 16]
  assert frames(clip, 50, 50.0) == [17, 22, 27, 32]  # from 0.34 s
  assert frames(Clip(num_frames=3, sampling="rate", rate_hz=50.0), 4, 25.0) == [1, 2, 2]  # from 0.04 s
  with pytest.raises(UserError, match="of 4 frames spans 9 frames, but the video has 8"):
    frames(clip, 8, 25.0)
  for wrong in (dict(sampling="rate"), dict(rate_hz=5.0)):
    with pytest.raises(UserError, match=r"rate_hz = \d: must be above 0"):
      Clip(**wrong)


@given(st.integers(1, 16), st.floats(1, 30), st.integers(30, 90), st.sampled_from([2, 3, 5]))
def test_a_rate_shows_the_same_moments_of_a_video_stored_at_another_rate(
  num_frames: int, rate_hz: float, video_frames: int, times: int
):
  """The same seconds stored with 2, 3 or 5 times the frames: moments differ by at most half a frame of each."""
  clip = Clip(num_frames=num_frames, sampling="rate", rate_hz=rate_hz, short="repeat")
  coarse = np.array(frames(clip, video_frames, 30.0)) / 30
  fine = np.array(frames(clip, (video_frames - 1) * times + 1, 30.0 * times)) / (30 * times)
  np.testing.assert_array_less(np.abs(coarse - fine), 0.5 / 30 + 0.5 / (30 * times) + 1e-9)


def test_a_table_of_times_by_hand():
  """Frames at 0, 0.08, 0.2, 0.9, 1.2 s: nearest to 0.1, 0.6 and 1.1 s are frames 1, 3 and 4."""
  times_s = np.array([0, 0.08, 0.2, 0.9, 1.2])
  for clip in (Clip(num_frames=3, stride_s=0.5), Clip(num_frames=3, sampling="rate", rate_hz=2.0)):
    assert frame_numbers(clip, 5, 25.0, None, times_s + 3).tolist() == [1, 3, 4]
  # The median gap is 0.21 s, so the video ends at 1.41 s; at 1/4 and 3/4 of it frames 2 and 3 are on the screen.
  assert frame_numbers(Clip(num_frames=2, sampling="segments"), 5, 25.0, None, times_s).tolist() == [2, 3]
  assert frame_numbers(Clip(num_frames=3), 5, 25.0, None, times_s).tolist() == [1, 2, 3]  # a stride in frames
  with pytest.raises(ValueError, match="5 times in order"):
    frame_numbers(Clip(num_frames=3, stride_s=0.1), 5, 25.0, None, times_s[[0, 2, 1, 3, 4]])
  with pytest.raises(UserError, match="but the video has"):
    frame_numbers(Clip(num_frames=3, stride_s=0.7), 5, 25.0, None, times_s)


@given(strided | clips, tables, rates, rngs)
def test_any_clip_of_a_variable_rate_lies_inside(
  clip: Clip, times_s: np.ndarray, fps: float, rng: np.random.Generator | None
):
  """T frame numbers inside the video; without changes, within half the longest gap of evenly spaced moments."""
  numbers = frame_numbers(clip, len(times_s), fps, rng, times_s)
  assert len(numbers) == clip.num_frames
  assert 0 <= numbers.min() <= numbers.max() < len(times_s)
  step = 1 / clip.rate_hz if clip.sampling == "rate" else clip.stride_s
  if rng is None and step and clip.sampling != "segments" and (clip.num_frames - 1) * step <= times_s[-1] - times_s[0]:
    start = times_s[0] + (times_s[-1] - times_s[0] - (clip.num_frames - 1) * step) / 2
    away = np.abs(times_s[numbers] - start - np.arange(clip.num_frames) * step)
    assert away.max() <= np.diff(times_s, prepend=times_s[0] - 0.2).max() / 2 + 1e-9


def test_a_constant_table_changes_nothing():
  """Times of a constant rate give what the rate gives."""
  for clip in (Clip(num_frames=4, sampling="rate", rate_hz=7.0), Clip(num_frames=4, sampling="segments")):
    plain = frames(clip, 40, 25.0)
    assert frame_numbers(clip, 40, 25.0, None, np.arange(40) / 25).tolist() == plain


@given(strided, lengths, rates, rngs)
def test_changes_in_training_stay_inside_and_in_order(
  clip: Clip, video_frames: int, fps: float, rng: np.random.Generator | None
):
  """With jitter, speed and reversal: in the video, and in order or in reversed order, unless a loop starts again."""
  numbers = frame_numbers(clip, video_frames, fps, rng)
  assert len(numbers) == clip.num_frames
  assert 0 <= numbers.min() <= numbers.max() < video_frames
  if clip.short != "loop" or span(clip, video_frames, fps) <= video_frames:
    ordered = numbers[::-1] if numbers[0] > numbers[-1] else numbers
    assert (np.diff(ordered) >= 0).all()


@given(strided, lengths, rates, st.integers(0, 9))
def test_speed_is_an_even_stride_within_its_range(clip: Clip, video_frames: int, fps: float, seed: int):
  """Without jitter, frames are evenly spaced by a factor of the stride that lies in the range or is cut to fit."""
  plain = dataclasses.replace(clip, jitter_frac=0.0, reverse_frac=0.0)
  if span(plain, video_frames, fps) > video_frames or clip.num_frames < 2:
    return
  stride = {"rate": fps / (clip.rate_hz or 1)}.get(clip.sampling, clip.stride_s * fps or clip.stride_f)
  numbers = np.array(frames(plain, video_frames, fps, seed))
  found = (numbers[-1] - numbers[0]) / (clip.num_frames - 1)
  low, high = (s * stride for s in clip.speed)
  off = 1 / (clip.num_frames - 1)  # both ends are rounded
  low = min(low, max((video_frames - 1) / (clip.num_frames - 1), stride))
  assert low - off - 1e-6 <= found <= high + off + 1e-6
  wanted = numbers[0] + np.arange(clip.num_frames) * found
  np.testing.assert_array_less(np.abs(numbers - wanted), 1 + 1e-6)


def test_speed_jitter_and_reversal_by_hand():
  """Three times as fast, 4 frames of stride 1 span 10 frames; of 7 frames they can span no more than those 7."""
  fast = Clip(num_frames=4, speed=(3.0, 3.0))
  assert frames(fast, 10, seed=0) == [0, 3, 6, 9]
  assert frames(fast, 7, seed=0) == [0, 2, 4, 6]
  assert frames(fast, 10) == [3, 4, 5, 6]  # evaluation is left alone
  assert frames(Clip(num_frames=4, reverse_frac=1.0), 4, seed=0) == [3, 2, 1, 0]
  moved = Clip(num_frames=3, stride_f=4, jitter_frac=0.9)
  drawn = np.array([frames(moved, 9, seed=i) for i in range(200)])
  assert [sorted(set(column)) for column in drawn.T] == [[0, 1, 2], [2, 3, 4, 5, 6], [6, 7, 8]]
  backwards = [frames(Clip(num_frames=2, reverse_frac=0.5), 2, seed=i) == [1, 0] for i in range(200)]
  assert 65 < sum(backwards) < 135
  for wrong in (dict(speed=(2.0, 1.0)), dict(sampling="segments", jitter_frac=0.1)):
    with pytest.raises(UserError):
      Clip(**wrong)


def test_short_videos_loop_or_lie_in_the_middle():
  """5 frames for a clip of 8: again from the start, or two repeats before and one behind."""
  assert frames(Clip(num_frames=8, short="loop"), 5) == [0, 1, 2, 3, 4, 0, 1, 2]
  assert frames(Clip(num_frames=4, stride_f=2, short="loop"), 3, seed=0) == [0, 2, 1, 0]
  assert frames(Clip(num_frames=8, short="centre"), 5) == [0, 0, 0, 1, 2, 3, 4, 4]
  assert frames(Clip(num_frames=8, sampling="rate", rate_hz=25.0, short="loop"), 5) == [0, 1, 2, 3, 4, 0, 1, 2]


@given(clips, st.integers(2, 200), rates, st.integers(2, 12))
def test_views_are_spread_from_the_first_to_the_last_start(clip: Clip, video_frames: int, fps: float, count: int):
  """The first view starts at frame 0, the last one ends with the video, and starts lie evenly between."""
  views = [frame_numbers(clip, video_frames, fps, None, view=(i, count)) for i in range(count)]
  assert all(v[0] >= 0 and v[-1] < video_frames and (np.diff(v) >= 0).all() for v in views)
  if clip.sampling != "segments" and span(clip, video_frames, fps) <= video_frames:
    assert views[0][0] == 0
    assert views[-1][-1] == video_frames - 1
    starts = np.array([v[0] for v in views])
    assert np.abs(starts - np.linspace(0, starts[-1], count)).max() <= 1


def test_views_by_hand():
  """Three views of 4 of 10 frames start at 0, 3 and 6; segments of 4 frames show frames 0 and 4, then 2 and 6."""
  found = [frame_numbers(Clip(num_frames=4), 10, 25.0, None, view=(i, 3)).tolist() for i in range(3)]
  assert found == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]
  halves = Clip(num_frames=2, sampling="segments")
  assert [frame_numbers(halves, 8, 25.0, None, view=(i, 2)).tolist() for i in range(2)] == [[1, 5], [3, 7]]


@given(clips, lengths, rates)
def test_random_starts_reach_both_ends(clip: Clip, video_frames: int, fps: float):
  """In a few hundred draws of a short room, the first and the last possible start occur."""
  room = video_frames - span(clip, video_frames, fps)
  if clip.sampling != "segments" and 0 <= room < 12:
    drawn = [frames(clip, video_frames, fps, seed=i) for i in range(400)]
    assert min(d[0] for d in drawn) == 0
    assert max(d[-1] for d in drawn) == video_frames - 1


def test_decoders_get_frames_in_order():
  """Reversed and looped clips are decoded forwards, each frame once, and put back; others are left as they are."""
  numbers, places = in_order(np.array([3, 4, 0, 1, 3]))
  assert (numbers.tolist(), numbers[places].tolist()) == ([0, 1, 3, 4], [3, 4, 0, 1, 3])
  forwards = np.array([2, 2, 5])
  assert in_order(forwards) == (forwards, None)


def test_shuffled_clips_have_every_order_equally_often():
  """In training by draws, in evaluation by keys; 6 orders of 3 frames, 600 times: 100 each, deviation 9."""
  clip, taken, rng = Clip(num_frames=3, order="shuffled"), np.array([4, 5, 6]), np.random.default_rng(0)
  drawn = Counter(tuple(ordered(clip, taken, rng).tolist()) for _ in range(600))
  keyed = Counter(tuple(ordered(clip, taken, None, key, 0).tolist()) for key in range(600))
  for counts in (drawn, keyed):
    assert set(counts) == {(4, 5, 6), (4, 6, 5), (5, 4, 6), (5, 6, 4), (6, 4, 5), (6, 5, 4)}
    assert all(70 < n < 130 for n in counts.values())


def test_evaluation_shuffles_a_clip_in_the_same_way_every_time():
  """By its key, whatever was drawn before; clips in time are left alone."""
  taken = np.arange(8)
  clip = Clip(num_frames=8, order="shuffled")
  assert ordered(clip, taken, None, 7).tolist() == ordered(clip, taken, None, 7).tolist()
  assert ordered(clip, taken, None, 7).tolist() != ordered(clip, taken, None, 8).tolist()
  assert ordered(Clip(num_frames=8), taken, None, 7).tolist() == taken.tolist()
  assert taken.tolist() == list(range(8))


def test_training_clips_start_anywhere_or_are_centred():
  """Four of ten frames: starts 0 to 6 at random; centred they start at 3, as in evaluation."""
  clip = Clip(num_frames=4)
  starts = {int(frame_numbers(clip, 10, 25.0, np.random.default_rng(n))[0]) for n in range(100)}
  assert starts == set(range(7))
  centred = frame_numbers(dataclasses.replace(clip, start="centre"), 10, 25.0, np.random.default_rng(0))
  np.testing.assert_array_equal(centred, [3, 4, 5, 6])
  np.testing.assert_array_equal(centred, frame_numbers(clip, 10, 25.0, None))
