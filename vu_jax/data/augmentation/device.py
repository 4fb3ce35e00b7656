"""Colours and blur of a batch on the device: the operations of the host, inside jit, one key per clip.

Values are 0..255, as uint8 (rounded, as on the host) or as floats (not rounded); type and shape stay. Each clip's draw
depends on the key and on the clip's place in the batch, not on how many devices share the batch.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Num

from vu_jax.data.augmentation.augment import Augment
from vu_jax.data.augmentation.colour import LUMA, blur_radius, colour_matrix, colour_offset

Clip = Num[Array, "T H W 3"]
Scalar = Num[Array, ""] | float


def recolour(video: Clip, brightness: Scalar, contrast: Scalar, saturation: Scalar, hue_turn: Scalar) -> Clip:
  """`operations.recolour`; the arguments may be traced."""
  angle = 2 * jnp.pi * hue_turn
  matrix = colour_matrix(brightness, contrast, saturation, jnp.cos(angle), jnp.sin(angle))
  pixels = video.astype(jnp.float32)
  offset = colour_offset(brightness, contrast, (pixels.mean((0, 1, 2)) * LUMA).sum())
  # Exact float32 products on every backend: a tensor core's would lose the last bits of a pixel.
  changed = jnp.einsum("thwc,dc->thwd", pixels, jnp.asarray(matrix, jnp.float32), precision="highest")
  return _like(changed + offset, video)


def greyscale(video: Clip) -> Clip:
  """`operations.greyscale`."""
  return recolour(video, 1, 1, 0, 0)


def blur(video: Clip, sigma_px: Scalar, radius: int) -> Clip:
  """`operations.blur` with a window of 2 radius + 1 px; `sigma_px` may be traced, and 0 changes nothing."""
  places = np.arange(-radius, radius + 1)
  kernel = jnp.exp(-0.5 * (places / jnp.maximum(sigma_px, 1e-3)) ** 2)
  kernel = kernel / kernel.sum()
  pixels = video.astype(jnp.float32)
  for axis in (1, 2):
    size = pixels.shape[axis]
    room = [(radius, radius) if a == axis else (0, 0) for a in range(pixels.ndim)]
    padded = jnp.pad(pixels, room, mode="reflect")
    # Shifted copies times numbers: XLA fuses them into one pass over the pixels.
    parts = (k * jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i, k in enumerate(kernel))
    pixels = sum(parts, start=jnp.zeros_like(pixels))
  return _like(pixels, video)


def recoloured(key: Key[Array, ""], video: Num[Array, "B T H W 3"], options: Augment) -> Num[Array, "B T H W 3"]:
  """Brightness to blur of `options` for every clip of a batch, each with draws of its own."""
  keys = jax.random.split(key, len(video))
  if any((options.brightness, options.contrast, options.saturation, options.hue_turn, options.grey_frac)):
    video = jax.vmap(lambda k, v: recolour(v, *_colours(k, options)))(keys, video)
  if options.blur_frac:
    radius = blur_radius(options.blur_sigma_px[1])
    video = jax.vmap(lambda k, v: blur(v, _sigma(k, options), radius))(keys, video)
  return video


def _colours(key: Key[Array, ""], options: Augment) -> tuple[Array, Array, Array, Array]:
  """Brightness, contrast, saturation, hue of one clip; grey is saturation 0."""
  draws, coin, grey = jax.random.split(jax.random.fold_in(key, 0), 3)
  spreads = jnp.array([options.brightness, options.contrast, options.saturation, options.hue_turn])
  spreads = spreads * jax.random.bernoulli(coin, options.colour_frac)
  brightness, contrast, saturation, hue = spreads * jax.random.uniform(draws, (4,), minval=-1, maxval=1)
  keeps = 1 - jax.random.bernoulli(grey, options.grey_frac)
  return 1 + brightness, 1 + contrast, keeps * (1 + saturation), hue


def _sigma(key: Key[Array, ""], options: Augment) -> Array:
  draw, coin = jax.random.split(jax.random.fold_in(key, 1))
  low, high = options.blur_sigma_px
  return jax.random.bernoulli(coin, options.blur_frac) * jax.random.uniform(draw, minval=low, maxval=high)


def _like(pixels: Float[Array, "T H W 3"], video: Clip) -> Clip:
  """Cut to 0..255, and rounded where the pixels were whole."""
  cut = jnp.clip(pixels, 0, 255)
  return (jnp.round(cut) if jnp.issubdtype(video.dtype, jnp.integer) else cut).astype(video.dtype)
