"""A page that shows clips as training sees them: one HTML file that needs nothing but itself."""

import base64
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8

from vu_jax.errors import UserError
from vu_jax.report import html

_QUALITY = 88
_SHOWN_PX = 168  # width of a clip on the page


@dataclass(frozen=True)
class Shown:
  """One clip on the page: its frames (T H W 3) and what is said below them."""

  video: UInt8[np.ndarray, "T H W 3"]
  caption: str


@dataclass(frozen=True)
class Row:
  """One stored clip: its class, its id, and the clip without and with augmentation."""

  label: str
  id: str
  clips: Sequence[Shown]


def write_preview(target: pathlib.Path, title: str, settings: Sequence[tuple[str, str]], rows: Sequence[Row]) -> None:
  """Writes the page to a new file.

  Args:
    target: file to write; its folder must exist.
    title: of the page.
    settings: (key, value) of what is on.
    rows: at least one; all of their videos have the same number of frames and the same size.

  Raises:
    UserError: the file exists, or cannot be written.
  """
  page = render(title, settings, rows)
  try:
    with target.open("x", encoding="utf-8") as file:
      file.write(page)
  except FileExistsError:
    raise UserError(f"{target}: exists already; name a new file, or remove it") from None
  except OSError as error:
    raise UserError(f"{target}: cannot be written ({error.strerror})") from None


def render(title: str, settings: Sequence[tuple[str, str]], rows: Sequence[Row]) -> str:
  """The page as HTML text; frames are JPEG strips that the page's style runs through in a loop."""
  frames, height, width, _ = rows[0].clips[0].video.shape
  values = dict(
    title=title,
    settings=settings,
    rows=rows,
    strip=strip,
    frames=frames,
    width_px=_SHOWN_PX,
    height_px=round(_SHOWN_PX * height / width),
  )
  return html.page("preview", values)


def strip(video: UInt8[np.ndarray, "T H W 3"]) -> str:
  """The frames side by side, as the data URI of one picture."""
  frames, height, width, _ = video.shape
  row = np.ascontiguousarray(video.swapaxes(0, 1)).reshape(height, frames * width, 3)
  _, picture = cv2.imencode(".jpg", row[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
  return f"data:image/jpeg;base64,{base64.b64encode(picture.tobytes()).decode()}"
