"""Pictures of a video stream <-> upright RGB arrays: colours, rotation, pixel shape, size."""

from collections.abc import Callable
from fractions import Fraction

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8

Size = tuple[int, int]  # (height, width) [px]
Window = Callable[[Size], tuple[slice, slice]]  # size of a picture -> rows and columns

# ITU-T H.273 codes of what OpenCV's I420 conversion means: BT.601 colours in limited range (16..235).
_BT601 = (2, 5, 6)  # unspecified, BT.470BG, SMPTE 170M
_FULL_RANGE = 2
_CHROMA = np.array([[-0.148223, -0.290993, 0.439216, 128], [0.439216, -0.367788, -0.071427, 128]], np.float32)


def scaled_size(size: Size, short_side: int, enlarge: bool = True) -> Size:
  """Size of the same shape with the given short side; both sides even, as 4:2:0 video wants them.

  Args:
    size: (height, width) [px].
    short_side: wanted length of the shorter side [px]; 0 = keep, only make both sides even.
    enlarge: False = a picture that is smaller already keeps its size.
  """
  short = min(size)
  scale = short_side / short if short_side and (enlarge or short_side < short) else 1.0
  height, width = (max(2, 2 * int(side * scale / 2 + 0.499)) for side in size)  # an odd side loses a pixel
  return height, width


def resize(
  rgb: UInt8[np.ndarray, "H W 3"], size: Size, out: UInt8[np.ndarray, "h w 3"] | None = None
) -> UInt8[np.ndarray, "h w 3"]:
  """Resizes to (height, width), into `out` if given: area mean when the picture shrinks, bilinear when it grows."""
  if rgb.shape[:2] == size and out is None:
    return rgb
  shrinks = size[0] * size[1] < rgb.shape[0] * rgb.shape[1]
  return cv2.resize(rgb, size[::-1], out, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def displayed_size(picture: av.VideoFrame, pixel_aspect: Fraction | None) -> Size:
  """(height, width) of a picture shown upright, with square pixels [px].

  Args:
    picture: decoded picture, as coded.
    pixel_aspect: width / height of a pixel; None, 0 or an absurd value = square.
  """
  aspect = pixel_aspect if pixel_aspect and 0.1 <= pixel_aspect <= 10 else 1
  size = picture.height, max(1, round(picture.width * aspect))
  return size[::-1] if _quarter_turns(picture) % 2 else size


class ToRgb:
  """Turns the pictures of one stream into upright RGB arrays.

  It keeps one scaler for the stream, because building one per picture costs more than using it.
  """

  def __init__(self) -> None:
    self._scaler = VideoReformatter()

  def __call__(self, picture: av.VideoFrame, window: Window) -> UInt8[np.ndarray, "h w 3"]:
    """The rows and columns of a picture that `window(height, width)` of the upright picture wants [pixels as coded].

    Where FFmpeg's planes are what OpenCV converts, only those of the window are.
    """
    turns = _quarter_turns(picture)
    size = picture.height, picture.width
    rows, columns = window(size[::-1] if turns % 2 else size)
    if not turns and _is_plain(picture):
      return _plain_rgb(picture, rows, columns)
    rgb = np.rot90(self._rgb(picture), turns)[rows, columns]
    return np.ascontiguousarray(rgb)

  def _rgb(self, picture: av.VideoFrame) -> UInt8[np.ndarray, "H W 3"]:
    if _is_plain(picture):
      return _plain_rgb(picture, slice(0, picture.height), slice(0, picture.width))
    converted = self._scaler.reformat(picture, format="rgb24", threads=1)
    rows = np.ascontiguousarray(_plane(converted, 0, picture.width * 3))
    return rows.reshape(picture.height, picture.width, 3)


def rgb_to_i420(rgb: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H*3//2 W"]:
  """BT.601 limited-range 4:2:0 planes, stacked as FFmpeg's yuv420p; sides must be even.

  Differs from OpenCV's own conversion: the colour of a 2x2 block is the mean of its four pixels, where OpenCV
  takes the first one, which costs 2.5 dB on real frames.
  """
  height, width = rgb.shape[:2]
  planes = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420)
  blocks = cv2.resize(rgb, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
  chroma = cv2.transform(blocks, _CHROMA)  # h w 2
  planes[height:] = chroma.transpose(2, 0, 1).reshape(height // 2, width)
  return planes


def _quarter_turns(picture: av.VideoFrame) -> int:
  """Counter-clockwise quarter turns that set the picture upright, 0..3."""
  return round(picture.rotation / 90) % 4


def _is_plain(picture: av.VideoFrame) -> bool:
  return (
    picture.format.name == "yuv420p"
    and picture.colorspace in _BT601
    and picture.color_range != _FULL_RANGE
    and picture.height % 2 == 0
    and picture.width % 2 == 0
  )


def _plane(picture: av.VideoFrame, number: int, row_bytes: int) -> UInt8[np.ndarray, "rows row_bytes"]:
  """View of one plane without the padding at the end of each row."""
  plane = picture.planes[number]
  rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, abs(plane.line_size))
  if plane.line_size < 0:  # stored bottom up
    rows = rows[::-1]
  return rows[: plane.height, :row_bytes]


def _plain_rgb(picture: av.VideoFrame, rows: slice, columns: slice) -> UInt8[np.ndarray, "h w 3"]:
  """Converts the window, widened to whole 2x2 blocks of colour, and cuts it to size."""
  top, left = rows.start // 2 * 2, columns.start // 2 * 2
  height, width = -(-(rows.stop - top) // 2) * 2, -(-(columns.stop - left) // 2) * 2
  stacked = np.empty((height * 3 // 2, width), np.uint8)
  stacked[:height] = _plane(picture, 0, picture.width)[top : top + height, left : left + width]
  chroma = stacked[height:].reshape(2, height // 2, width // 2)
  for number, plane in enumerate(chroma, 1):
    whole = _plane(picture, number, picture.width // 2)
    plane[:] = whole[top // 2 : (top + height) // 2, left // 2 : (left + width) // 2]
  rgb = cv2.cvtColor(stacked, cv2.COLOR_YUV2RGB_I420)
  return rgb[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
