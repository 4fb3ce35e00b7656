"""What one stored clip holds: encoded video, label and facts, as TFDS features that need no TensorFlow."""

import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow_datasets as tfds


class EncodedVideo(tfds.features.Tensor):
  """The bytes of one video file, kept as they are; the loader decodes only the frames that it needs.

  `tfds.features.Video` would need TensorFlow and would decode every frame at each read.
  """

  def __init__(self, codec: str = "h264", doc: Any = None):
    super().__init__(shape=(), dtype=np.object_, doc=doc)
    self.codec = codec

  def encode_example(self, example_data: bytes | str | pathlib.Path) -> Any:
    raw = example_data if isinstance(example_data, bytes) else pathlib.Path(example_data).read_bytes()
    return super().encode_example(raw)

  def to_json_content(self) -> dict[str, str]:
    return {"codec": self.codec}

  @classmethod
  def from_json_content(cls, value: dict[str, str]) -> "EncodedVideo":
    return cls(**value)


def clip_features(label_names: Sequence[str], store: str = "intra") -> tfds.features.FeaturesDict:
  """Features of one labelled clip in a form of `stores`; every builder of labelled clips stores exactly these."""
  return tfds.features.FeaturesDict(
    {
      "video": EncodedVideo("h264" if store == "intra" else store),
      "label": tfds.features.ClassLabel(names=list(label_names)),
      "id": tfds.features.Text(doc="relative path, or the generator's clip number"),
      "num_frames": tfds.features.Scalar(np.int32),
      "fps": tfds.features.Scalar(np.float32),
      "height": tfds.features.Scalar(np.int32, doc="stored height [px]"),
      "width": tfds.features.Scalar(np.int32, doc="stored width [px]"),
    }
  )


@dataclass(eq=False, kw_only=True)
class ClipsConfig(tfds.core.BuilderConfig):
  """Hands a builder its `Options`; `name` is the fingerprint that names the prepared folder."""

  options: Any = None
