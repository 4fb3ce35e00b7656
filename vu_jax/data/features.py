"""What one stored clip holds: encoded video, label and facts, as TFDS features that need no TensorFlow."""

import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import tensorflow_datasets as tfds

from vu_jax.data.listing.folders import Box

Extra: TypeAlias = Literal["times_s", "source", "boxes", "audio"]


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


def clip_features(
  label_names: Sequence[str], store: str = "intra", extras: Sequence[Extra] = ()
) -> tfds.features.FeaturesDict:
  """Features of one labelled clip in a form of `stores`; every builder of labelled clips stores exactly these.

  Args:
    label_names: of the classes.
    store: the form.
    extras: what these clips have besides. Datasets without an extra are read as well; readers ask with `get`.
      times_s: when each frame begins since the first one [s], empty where `fps` says it.
      source: size [bytes] and time of the last change [ns] of the file that the clip was made from.
      boxes: see `box_rows`; in a form that holds one annotated moment of a clip as well as a box in each frame.
      audio: the sound as `vu_jax.data.audio.store` has it, empty where the video has none.
  """
  features = {
    "video": EncodedVideo("h264" if store == "intra" else store),
    "label": tfds.features.ClassLabel(names=list(label_names)),
    "id": tfds.features.Text(doc="relative path, or the generator's clip number"),
    "num_frames": tfds.features.Scalar(np.int32),
    "fps": tfds.features.Scalar(np.float32),
    "height": tfds.features.Scalar(np.int32, doc="stored height [px]"),
    "width": tfds.features.Scalar(np.int32, doc="stored width [px]"),
  }
  tensor = tfds.features.Tensor
  known = {
    "times_s": {"times_s": tensor(shape=(None,), dtype=np.float32, doc="start of each frame [s], or empty")},
    "source": {"source": tensor(shape=(2,), dtype=np.int64, doc="size [bytes] and change [ns] of the file")},
    "audio": {"audio": tensor(shape=(), dtype=np.object_, doc="sound, or empty")},
    "boxes": {
      "boxes": tensor(shape=(None, 4), dtype=np.float32, doc="left, top, right, bottom, fractions of the frame"),
      "box_times_s": tensor(shape=(None,), dtype=np.float32, doc="moment of each box since the first frame [s]"),
      "box_labels": tensor(shape=(None, len(label_names)), dtype=np.uint8, doc="1 = the box has this label"),
      "box_persons": tensor(shape=(None,), dtype=np.int32, doc="the same number = the same person; -1 = not known"),
    },
  }
  return tfds.features.FeaturesDict(features | {key: of for name in extras for key, of in known[name].items()})


def box_rows(boxes: Sequence[Box], label_names: Sequence[str], first_s: float) -> Mapping[str, np.ndarray]:
  """Boxes (n of them, Y labels) as they are stored: `boxes` (n 4), `box_times_s`, `box_labels` (n Y), `box_persons`.

  Args:
    boxes: of a clip.
    label_names: of the dataset.
    first_s: time of the clip's first frame in the file [s].
  """
  place = {name: number for number, name in enumerate(label_names)}
  labels = np.zeros((len(boxes), len(place)), np.uint8)
  for row, box in zip(labels, boxes, strict=True):
    row[[place[label] for label in box.labels]] = 1
  return {
    "boxes": np.array([box.corners for box in boxes], np.float32).reshape(-1, 4),
    "box_times_s": np.array([box.time_s - first_s for box in boxes], np.float32),
    "box_labels": labels,
    "box_persons": np.array([box.person for box in boxes], np.int32),
  }


@dataclass(eq=False, kw_only=True)
class ClipsConfig(tfds.core.BuilderConfig):
  """Hands a builder its `Options`; `name` is the fingerprint that names the prepared folder."""

  options: Any = None
