"""Colours as arithmetic that host and device share: constants and formulas of numbers, no pixels.

Brightness, contrast, saturation and hue are each linear in (red, green, blue), so together they are one matrix and one
offset: one pass over the pixels instead of four.

Differs from the usual colour jitter (as in torchvision): the order is fixed (brightness, contrast, saturation, hue),
values are cut to 0..255 once at the end, the mean for contrast is the clip's and not the frame's, and hue turns the
chroma plane of YIQ at constant luma instead of HSV, which needs no branches and keeps the grey of a pixel.
"""

from typing import Any

import numpy as np

LUMA = np.array([0.299, 0.587, 0.114])  # weights of red, green, blue (ITU-R BT.601)
TO_LUMA = np.tile(LUMA, (3, 1))  # the matrix that makes every colour its grey
_YIQ = np.array([LUMA, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
_QUARTER = np.array([[0, 0, 0], [0, 0, 1], [0, -1, 0]])  # of a turn in the plane of I and Q, red towards green
_TURN = np.linalg.solve(_YIQ, _QUARTER @ _YIQ)


def colour_matrix(brightness: Any, contrast: Any, saturation: Any, cos: Any, sin: Any) -> Any:
  """(3, 3): the linear part of all four, for numbers of numpy or of a traced function.

  Args:
    brightness, contrast, saturation: factors; 1 = unchanged, 0 = black, uniformly grey, grey pixels.
    cos, sin: of the angle by which hues turn; 1, 0 = unchanged; a positive angle turns red towards green.
  """
  # Luma is left alone by both, so mixing with grey and turning commute.
  turned = TO_LUMA + cos * (np.eye(3) - TO_LUMA) + sin * _TURN
  return brightness * contrast * (saturation * turned + (1 - saturation) * TO_LUMA)


def colour_offset(brightness: Any, contrast: Any, mean_luma: Any) -> Any:
  """What is added to every channel: contrast leaves the clip's mean luma, after brightness, where it is."""
  return (1 - contrast) * brightness * mean_luma


def blur_radius(sigma_px: float) -> int:
  """Half the width of the window that holds a Gaussian of this deviation [px]."""
  return int(np.ceil(3 * sigma_px))
