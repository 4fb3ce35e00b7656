"""The motion dataset: reproducible, balanced, and silent about its label in anything but the order of frames."""

import pathlib
from typing import Any

import numpy as np
import pytest

from vu_jax.data import motion_scene
from vu_jax.data.builders.motion import Options, example, fingerprint
from vu_jax.data.motion_scene import LABELS, Scene, draw, flow
from vu_jax.data.source import PreparedSource
from vu_jax.data.video.decode import decode_frames
from vu_jax.errors import UserError

OPPOSITE = {"left": "right", "up": "down", "clockwise": "counter_clockwise", "expanding": "shrinking"}
OPPOSITES = OPPOSITE | {b: a for a, b in OPPOSITE.items()}
SMALL = Scene(size_px=16, num_frames=5, lifetime_f=4, sprites=4.0, radius_frac=(0.06, 0.14), speed_frac=(0.03, 0.06))
SPEED, RATE, LIFE = 0.06, 0.15, 6  # the fastest of the default dataset, in sides of the frame


def places(label: str, count: int) -> np.ndarray:
  """Where `count` sprites of one frame are, in sides of the frame from its centre, as `draw` draws them."""
  rng = np.random.default_rng(LABELS.index(label))
  anchor = rng.uniform(-1.2, 1.2, (count, 2))
  offset = rng.integers(LIFE, size=count) - (LIFE - 1) / 2
  return flow(label, anchor, offset, SPEED, RATE, LIFE)


def test_clips_are_a_function_of_seed_split_and_index():
  """The same three numbers give the same bytes; any other one gives other pixels and another dataset."""
  options = Options(num_frames=7, size_px=32)
  first = example(options, "train", 3)
  assert example(options, "train", 3) == first
  others = [example(Options(num_frames=7, size_px=32, seed=1), "train", 3), example(options, "test", 3)]
  assert all(other["video"] != first["video"] and other["label"] == first["label"] for other in others)
  assert fingerprint(options) == fingerprint(Options(num_frames=7, size_px=32)) != fingerprint(Options(seed=1))


def test_stored_clips_look_as_drawn():
  """By default 10 frames of 64x64 px, decodable, with the noise of the codec only, and the facts that are stored."""
  stored = example(Options(), "validation", 9)
  assert (stored["id"], stored["label"]) == ("validation/00009_right", "right")
  assert [stored[k] for k in ("num_frames", "fps", "height", "width")] == [10, 12.0, 64, 64]
  frames = decode_frames(stored["video"], np.arange(10))
  o = Options()
  scene = Scene(o.size_px, o.num_frames, o.lifetime_f, o.sprites, o.radius_frac, o.speed_frac)
  drawn = draw(scene, "right", np.random.default_rng((0, 1, 9)))
  assert frames.shape == drawn.shape == (10, 64, 64, 3)
  error = (frames.astype(float) - drawn) ** 2
  assert error.mean() < 40  # 32 dB
  assert drawn.std() > 15


def test_labels_are_balanced(tiny_motion: pathlib.Path):
  """24 training clips are three of each motion, and ids are unique."""
  source = PreparedSource(tiny_motion, "train")
  clips = [source[i] for i in range(len(source))]
  assert tuple(source.label_names) == LABELS
  assert np.bincount([clip["label"] for clip in clips]).tolist() == [3] * 8
  assert len({clip["id"] for clip in clips}) == 24


@pytest.mark.parametrize("label", LABELS)
def test_a_motion_backwards_is_its_opposite(label: str):
  """Left is right played backwards; so are the other three pairs. Hence no single frame can tell a pair apart."""
  rng = np.random.default_rng(0)
  anchor, offset = rng.uniform(-1, 1, (50, 2)), rng.uniform(-3, 3, 50)
  forward = flow(label, anchor, offset, SPEED, RATE, LIFE)
  backward = flow(OPPOSITES[label], anchor, -offset, SPEED, RATE, LIFE)
  np.testing.assert_allclose(forward, backward, rtol=1e-12)
  assert np.abs(forward - flow(label, anchor, -offset, SPEED, RATE, LIFE)).max() > 0.05


def test_flows_by_hand():
  """One frame after its anchor (3, 4): moved by the speed, turned by a quarter (y points down), or grown by e."""
  anchor, offset = np.array([[3.0, 4.0]]), np.array([1.0])
  for label, place in (("left", (1, 4)), ("right", (5, 4)), ("up", (3, 2)), ("down", (3, 6))):
    np.testing.assert_allclose(flow(label, anchor, offset, 2.0, 0.1, LIFE)[0], place)
  quarter = np.pi / 2
  np.testing.assert_allclose(flow("clockwise", anchor, offset, 2.0, quarter, LIFE)[0], (-4, 3))
  np.testing.assert_allclose(flow("counter_clockwise", anchor, offset, 2.0, quarter, LIFE)[0], (4, -3))
  grown = [flow("expanding", anchor, np.array([o]), 2.0, 1.0, LIFE)[0] for o in (0.0, 1.0)]
  np.testing.assert_allclose(grown[1] / grown[0], np.e)


@pytest.mark.parametrize("label", LABELS)
def test_one_frame_shows_as_many_sprites_everywhere_under_every_label(label: str):
  """Of 200,000 sprites in a field 2.4 sides wide, each sixteenth of the frame holds 200000 / 16 / 2.4^2 = 2170.

  The squared deviations over the expectation sum to chi-square with 16 degrees: 16, give or take 5 sqrt(32) = 28.
  A density 5 % too high, as without the shift of growing flows, would add 16 x 2170 x 0.05^2 = 87 and more.
  """
  count = 200_000
  found, _ = np.histogramdd(places(label, count), bins=4, range=[(-0.5, 0.5), (-0.5, 0.5)])
  expected = count / 16 / 2.4**2
  chi_square = ((found - expected) ** 2 / expected).sum()
  assert chi_square < 16 + 28
  assert abs(found.sum() - 16 * expected) < 5 * np.sqrt(16 * expected)  # 2.7 % of all sprites in view


def test_sprites_from_outside_the_field_could_not_reach_the_frame():
  """Whatever the motion, sprites with an anchor at the border of the field stay out of the frame for life."""
  border = np.stack([np.full(50, 1.2), np.linspace(-1.2, 1.2, 50)], axis=1)
  for label in LABELS:
    for offset in (-2.5, 2.5):
      for anchor in (border, -border, border[:, ::-1], -border[:, ::-1]):
        place = flow(label, anchor, np.full(50, offset), SPEED, RATE, LIFE)
        assert (np.abs(place).max(axis=1) > 0.5).all()


def test_the_ends_of_a_clip_share_no_sprite(monkeypatch: pytest.MonkeyPatch):
  """A lifetime of a whole clip is refused; in drawn clips, every sprite of the last frame was born after the first."""
  with pytest.raises(UserError, match="lifetime_f = 6: must be below num_frames = 6"):
    Options(lifetime_f=6, num_frames=6)
  Options(lifetime_f=5, num_frames=6)
  ages: list[np.ndarray] = []

  def record(label: str, anchor: np.ndarray, offset: np.ndarray, *rest: Any) -> np.ndarray:
    ages.append(offset + (SMALL.lifetime_f - 1) / 2)
    return flow(label, anchor, offset, *rest)

  monkeypatch.setattr(motion_scene, "flow", record)
  draw(SMALL, "left", np.random.default_rng(0))
  assert len(ages) == SMALL.num_frames
  assert (np.diff(ages, axis=0) % SMALL.lifetime_f == 1).all()  # everybody grows older, or is born anew
  assert ages[-1].max() < SMALL.num_frames - 1  # so whoever is seen last was born behind frame 0


def test_odd_sizes_are_refused():
  """Video codecs store pairs of pixels."""
  with pytest.raises(UserError, match="size_px = 33: must be even"):
    Options(size_px=33)


def motion_energy(clip: np.ndarray) -> np.ndarray:
  """What optical flow is made of, per quadrant: change in time times change in x, and in y."""
  slope_t, slope_y, slope_x = np.diff(clip, axis=0), *(np.gradient(clip[:-1], axis=axis) for axis in (1, 2))
  maps = np.stack([slope_t * slope_x, slope_t * slope_y])
  return maps.reshape(2, -1, 2, 8, 2, 8).mean(axis=(1, 3, 5)).ravel()


def accuracy(features: np.ndarray, label: np.ndarray, num_train: int) -> float:
  """Of a linear classifier, ridge regression on one-hot labels, on the clips behind the first `num_train`."""
  x = (features - features[:num_train].mean(0)) / features[:num_train].std(0)
  x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
  fit, rest = slice(num_train), slice(num_train, None)
  weights = np.linalg.solve(x[fit].T @ x[fit] + np.eye(x.shape[1]), x[fit].T @ np.eye(8)[label[fit]])
  return float(((x[rest] @ weights).argmax(1) == label[rest]).mean())


def test_only_the_order_of_frames_tells_the_label():
  """A linear classifier is near chance on one frame, on the first and last, and on the mean of all.

  Chance is 1/8; three standard deviations on 200 clips are 3 sqrt(1/8 x 7/8 / 200) = 0.07. From the products of
  slopes in time and space the same classifier reads far more than that.
  """
  label = np.tile(np.arange(8), 50)
  gray = np.stack([draw(SMALL, LABELS[y], np.random.default_rng(i)) for i, y in enumerate(label)]).mean(-1)
  small = gray.reshape(len(gray), -1, 4, 4, 4, 4).mean(axis=(3, 5))  # (clip, t, 4, 4)
  flat = {
    "one frame": small[:, 3],
    "its spread": gray[:, 3].reshape(-1, 4, 4, 4, 4).std(axis=(2, 4)),
    "first and last": small[:, [0, -1]],
    "mean": small.mean(1),
  }
  for name, features in flat.items():
    assert abs(accuracy(features.reshape(len(gray), -1), label, 200) - 1 / 8) < 0.07, name
  assert accuracy(np.stack([motion_energy(clip) for clip in gray]), label, 200) > 0.4
