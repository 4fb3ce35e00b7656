"""Draws one clip of the motion dataset: textured sprites that flow over a moving textured background.

A limited-lifetime kinematogram (Newsome & Pare 1988): every sprite lives for a few frames on a short path through a
random anchor, then another one appears elsewhere. The anchors are uniform over the plane and each flow keeps the
plane's uniform density, so a single frame has the same distribution under every label. First and last frame share no
sprite, so neither do they tell anything as a pair. Only the order of neighbouring frames does. (Exact for number and
place of the sprites; since they fade, growing and shrinking clips show up to 3 % less of them, far below the noise.)
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8

LABELS = ("left", "right", "up", "down", "clockwise", "counter_clockwise", "expanding", "shrinking")
_DIRECTION = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
_BANK = 8  # different sprites per clip


@dataclass(frozen=True)
class Scene:
  """Size and pace of a scene.

  Fields:
    size_px: side of the square frame. num_frames: length. lifetime_f: frames that a sprite lives.
    sprites: how many are in view on average.
    radius_frac, speed_frac: ranges of the sprites' radius and of their speed per frame, as shares of the side.
  """

  size_px: int
  num_frames: int
  lifetime_f: int
  sprites: float
  radius_frac: tuple[float, float]
  speed_frac: tuple[float, float]


def draw(scene: Scene, label: str, rng: np.random.Generator) -> UInt8[np.ndarray, "T H W 3"]:
  """One clip of the given motion; everything but the motion is drawn from `rng` independently of the label."""
  size, life = scene.size_px, scene.lifetime_f
  speed = size * rng.uniform(*scene.speed_frac)
  bank = [_sprite(scene, rng) for _ in range(_BANK)]
  backdrop = _backdrop(scene, rng)
  # Sprites outside the frame are drawn too: a flow carries them in.
  field = size * 2.4
  count = round(scene.sprites * (field / size) ** 2)
  births = scene.num_frames // life + 2
  anchor = rng.uniform(-field / 2, field / 2, (count, births, 2))
  which = rng.integers(_BANK, size=(count, births))
  phase = rng.integers(life, size=count)
  slot = np.arange(count)
  reach = size / 2 + size * scene.radius_frac[1] + 2  # a sprite further from the centre is out of sight
  for t, frame in enumerate(backdrop):
    birth, age = np.divmod(t + phase, life)
    offset = age - (life - 1) / 2  # frames since the middle of its life
    place = flow(label, anchor[slot, birth], offset, speed, speed / (0.4 * size), life) + size / 2
    opacity = np.minimum(1, np.minimum(age + 1, life - age) / 2)  # fades in and out, alike in both directions
    seen = np.flatnonzero((np.abs(place - size / 2) < reach).all(1))
    for i, (x, y), alpha in zip(seen.tolist(), place[seen].tolist(), opacity[seen].tolist(), strict=True):
      _blend(frame, bank[which[i, birth[i]]], x, y, alpha)
  return np.clip(backdrop, 0, 255).astype(np.uint8)


def flow(
  label: str,
  anchor: Float[np.ndarray, "N 2"],
  offset: Float[np.ndarray, " N"],
  speed: float,
  rate: float,
  life: int,
) -> Float[np.ndarray, "N 2"]:
  """Where sprites are, relative to the frame's centre: each passes its anchor in the middle of its life.

  Args:
    label: the motion.  anchor: (x right, y down) [px].
    offset: frames since the middle of each sprite's life, symmetric around 0.
    speed: of translations [px per frame].  rate: of rotation [rad] and growth [log], per frame.
    life: lifetime [frames].
  """
  if label in _DIRECTION:
    return anchor + offset[:, None] * speed * np.array(_DIRECTION[label])
  x, y = anchor[:, 0], anchor[:, 1]
  if label in ("clockwise", "counter_clockwise"):  # y points down, so a positive angle turns clockwise
    angle = offset * rate * (1 if label == "clockwise" else -1)
    return np.stack([np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y], -1)
  # Growth by e^g thins a uniform density by e^(-2g). This shift makes the mean over a life exactly 1, so that
  # expanding and shrinking clips show as many sprites as the others.
  shift = -np.log(np.sinh(rate * life) / (life * np.sinh(rate))) / 2
  growth = offset * rate * (1 if label == "expanding" else -1) - shift
  return anchor * np.exp(growth)[:, None]


def _backdrop(scene: Scene, rng: np.random.Generator) -> Float[np.ndarray, "T H W 3"]:
  """Dim smooth texture that drifts in a direction of its own, unrelated to the label."""
  size = scene.size_px
  tile = np.tile(_texture(size, 1.5, rng) * 8 + rng.uniform(15, 60, 3), (2, 2, 1)).astype(np.float32)
  start = rng.uniform(0, size, 2)
  drift = size * rng.uniform(-0.03, 0.03, 2)
  frames = np.empty((scene.num_frames, size, size, 3), np.float32)
  for t, frame in enumerate(frames):
    x, y = (start + drift * t) % size
    frame[:] = _shifted(tile, -x, -y, size)
  return frames


def _sprite(scene: Scene, rng: np.random.Generator) -> Float[np.ndarray, "h w 4"]:
  """A bright textured disk with an antialiased edge: RGB 0..255 and opacity 0..1."""
  radius = scene.size_px * rng.uniform(*scene.radius_frac)
  half = int(np.ceil(radius))
  y, x = np.mgrid[-half : half + 1, -half : half + 1]
  alpha = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1)
  colour = _texture(2 * half + 1, 1.0, rng) * 20 + rng.uniform(170, 255, 3)
  return np.dstack([colour, alpha]).astype(np.float32)


def _texture(size: int, slope: float, rng: np.random.Generator) -> Float[np.ndarray, "s s 3"]:
  """Seamless noise with spectrum 1/f^slope, zero mean and unit variance per channel."""
  f = np.fft.fftfreq(size)
  radius = np.hypot(f[:, None], f[None, :])
  radius[0, 0] = 1
  noise = np.fft.ifft2(np.fft.fft2(rng.standard_normal((3, size, size))) / radius**slope).real
  noise -= noise.mean((1, 2), keepdims=True)
  return (noise / noise.std((1, 2), keepdims=True)).transpose(1, 2, 0)


def _shifted(image: np.ndarray, dx: float, dy: float, size: int) -> np.ndarray:
  move = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
  return cv2.warpAffine(image, move, (size, size), flags=cv2.INTER_LINEAR)


def _blend(frame: np.ndarray, sprite: np.ndarray, x: float, y: float, opacity: float) -> None:
  """Draws a sprite centred at (x, y), at fractions of a pixel, clipped by the frame's border."""
  size, side, half = len(frame), len(sprite) + 1, len(sprite) // 2  # one more pixel for the fraction
  column, row = math.floor(x) - half, math.floor(y) - half
  left, top, right, bottom = max(column, 0), max(row, 0), min(column + side, size), min(row + side, size)
  if left >= right or top >= bottom:
    return
  moved = _shifted(sprite, x % 1, y % 1, side)[top - row : bottom - row, left - column : right - column]
  target = frame[top:bottom, left:right]
  target += moved[..., 3:] * opacity * (moved[..., :3] - target)
