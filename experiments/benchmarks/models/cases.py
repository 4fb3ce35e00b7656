"""Which networks are measured, on which clips, and who else has them."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Package: TypeAlias = Literal["torchvision", "transformers", "pytorchvideo"]


@dataclass(frozen=True)
class ModelCase:
  """One preset of a model on the clip that it was published for.

  Fields:
    model, preset: as in a config; an empty preset takes the model's defaults.
    clip: frames, height and width.
    package, peer: who else has the network, and its name there; empty = nobody.
    channels: of the video.
  """

  model: str
  preset: str
  clip: tuple[int, int, int]
  package: Package | None = None
  peer: str = ""
  channels: int = 3

  @property
  def name(self) -> str:
    return " ".join(filter(None, (self.model, self.preset)))


FRAMES = (
  ModelCase("frame_cnn", "", (16, 112, 112)),
  ModelCase("resnet", "resnet18", (8, 224, 224), "torchvision", "resnet18"),
  ModelCase("resnet", "resnet50", (8, 224, 224), "torchvision", "resnet50"),
  ModelCase("inception", "googlenet", (8, 224, 224), "torchvision", "googlenet"),
  ModelCase("tsm", "tsm_r50", (8, 224, 224)),
)
RECURRENT = (
  ModelCase("cnn_rnn", "", (16, 112, 112)),
  ModelCase("st_lstm", "", (16, 112, 112)),
  ModelCase("tcn", "", (16, 112, 112)),
  ModelCase("conv_lstm", "", (16, 112, 112)),
  ModelCase("conv_lstm_rnn", "", (16, 112, 112)),
)
CONVOLUTIONAL = (
  ModelCase("c3d", "c3d", (16, 112, 112)),
  ModelCase("resnet3d", "r3d_18", (16, 112, 112), "torchvision", "r3d_18"),
  ModelCase("resnet3d", "mc3_18", (16, 112, 112), "torchvision", "mc3_18"),
  ModelCase("resnet3d", "r2plus1d_18", (16, 112, 112), "torchvision", "r2plus1d_18"),
  ModelCase("resnet3d", "slow_r50", (8, 224, 224), "pytorchvideo", "slow_r50"),
  ModelCase("resnet3d", "i3d_r50", (8, 224, 224)),
  ModelCase("i3d", "i3d", (16, 224, 224)),
  ModelCase("s3d", "s3d", (16, 224, 224), "torchvision", "s3d"),
  ModelCase("s3d", "s3dg", (16, 224, 224)),
  ModelCase("csn", "ir_csn_50", (16, 224, 224)),
  ModelCase("csn", "ir_csn_101", (16, 224, 224), "pytorchvideo", "csn_r101"),
  ModelCase("slowfast", "r50_4x16", (32, 224, 224), "pytorchvideo", "slowfast_r50_4x16"),
  ModelCase("slowfast", "r50_8x8", (32, 224, 224), "pytorchvideo", "slowfast_r50"),
  ModelCase("x3d", "x3d_xs", (4, 160, 160), "pytorchvideo", "x3d_xs"),
  ModelCase("x3d", "x3d_s", (13, 160, 160), "pytorchvideo", "x3d_s"),
  ModelCase("x3d", "x3d_m", (16, 224, 224), "pytorchvideo", "x3d_m"),
  ModelCase("x3d", "x3d_l", (16, 312, 312), "pytorchvideo", "x3d_l"),
)
TRANSFORMERS = (
  ModelCase("vivit", "b16x2", (32, 224, 224), "transformers", "vivit"),
  ModelCase("vivit", "b16x2_fe", (32, 224, 224)),
  ModelCase("timesformer", "divided", (8, 224, 224), "transformers", "timesformer"),
  ModelCase("videomae", "videomae_s", (16, 224, 224)),
  ModelCase("videomae", "videomae_b", (16, 224, 224), "transformers", "videomae_b"),
  ModelCase("mvit", "mvit_v2_s", (16, 224, 224), "torchvision", "mvit_v2_s"),
)
PREDICTION = (
  ModelCase("conv_lstm_forecaster", "convlstm_s", (10, 64, 64), channels=1),
  ModelCase("predrnn", "predrnn", (10, 64, 64), channels=1),
  ModelCase("simvp", "incepu", (10, 64, 64), channels=1),
  ModelCase("simvp", "gsta", (10, 64, 64), channels=1),
)
KINDS: dict[str, tuple[ModelCase, ...]] = {
  "frame models": FRAMES,
  "recurrent": RECURRENT,
  "3-D convolution": CONVOLUTIONAL,
  "transformers": TRANSFORMERS,
  "prediction": PREDICTION,
}
