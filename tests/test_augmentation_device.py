"""Colours and blur on the device: what the host does, drawn per clip."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vu_jax.data.augmentation import device, operations
from vu_jax.data.augmentation.augment import Augment


def noise(height: int = 16, width: int = 20) -> np.ndarray:
  return np.random.default_rng(0).integers(0, 256, (3, height, width, 3), dtype=np.uint8)


COLOURS = [(1.3, 1, 1, 0), (0.6, 1.7, 1, 0), (1, 1, 0, 0), (1, 1, 1.8, 0), (1, 1, 1, 0.1), (1.2, 0.7, 1.4, -0.3)]


@pytest.mark.parametrize("values", COLOURS)
def test_device_colours_are_the_host_s(values: tuple[float, ...]):
  """To the last bit of a pixel, as the host computes with ten fractional bits; floats stay floats."""
  clip = noise()
  host = operations.recolour(clip, *values).astype(int)
  found = jax.jit(device.recolour)(jnp.asarray(clip), *values)
  assert found.dtype == jnp.uint8
  np.testing.assert_allclose(np.asarray(found, int), host, atol=1)
  floats = jax.jit(device.recolour)(jnp.asarray(clip, jnp.float32), *values)
  np.testing.assert_allclose(floats, host, atol=1)
  assert 0 <= float(floats.min()) <= float(floats.max()) <= 255


def test_device_grey_and_blur_are_the_host_s():
  """Also with a wider window than the host's, and with a deviation of 0, which changes nothing."""
  clip = noise(height=24, width=30)
  np.testing.assert_allclose(np.asarray(device.greyscale(jnp.asarray(clip)), int), operations.greyscale(clip), atol=1)
  soft = jax.jit(device.blur, static_argnums=2)
  for sigma in (0.4, 1.0, 2.0):
    np.testing.assert_allclose(np.asarray(soft(clip, sigma, 6), int), operations.blur(clip, sigma), atol=1)
  np.testing.assert_array_equal(soft(clip, 0.0, 6), clip)


def test_device_draws_are_per_clip_and_in_range():
  """64 equal clips get 64 brightnesses of 60..140; half of them keep theirs with colour_frac 1/2; grey is grey."""
  red = jnp.tile(jnp.array([100, 0, 0], jnp.uint8), (64, 2, 4, 4, 1))
  seen = jax.jit(device.recoloured, static_argnums=2)
  bright = np.asarray(seen(jax.random.key(0), red, Augment(brightness=0.4)))
  assert (bright == bright[:, :1, :1, :1]).all()
  values = bright[:, 0, 0, 0, 0]
  assert 60 <= values.min() < 68 < 132 < values.max() <= 140
  kept = (np.asarray(seen(jax.random.key(1), red, Augment(brightness=0.4, colour_frac=0.5))) == red).all((1, 2, 3, 4))
  assert abs(kept.sum() - 32) < 5 * 4
  grey = np.asarray(seen(jax.random.key(2), red, Augment(grey_frac=0.5)))[:, 0, 0, 0]
  assert {tuple(colour) for colour in grey.tolist()} == {(100, 0, 0), (30, 30, 30)}
  both = Augment(blur_frac=0.5, brightness=0.1)
  np.testing.assert_array_equal(seen(jax.random.key(3), red, both), seen(jax.random.key(3), red, both))
