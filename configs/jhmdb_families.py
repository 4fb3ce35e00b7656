"""JHMDB (Jhuang et al., ICCV 2013), official split 1: families of architectures under one budget, from scratch.

python -m experiments.ablate --config=configs/jhmdb_families.py --config.data.root=/path/to/jhmdb

The data of configs/jhmdb_s3d.py with half its frames, smaller ones, and 1,600 steps of 8 clips (19 epochs) for each
family, about a tenth of what that recipe takes. The networks have at most two million parameters; none was tuned.

Test top-1 of one view, 268 clips (2026-11-22): I3D 30.5 % (three seeds: 31.7, 26.9, 32.8), TSM 25.0, S3D 24.5 (25.4,
25.0, 23.1), C3D 24.4 (26.1, 22.4, 24.6), the baseline 20.3 (20.5, 17.2, 23.1); the table is in README.md. About 6
minutes for each run on one CPU core.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import common, jhmdb_s3d

FAMILIES: dict[str, dict[str, Any]] = {
  "2-D ResNet": dict(name="resnet", depths=(1, 1, 1, 1), width=40),
  "TSM": dict(name="tsm", block="basic", depths=(1, 1, 1, 1), width=40),
  "TCN": dict(name="tcn", stages=((24, 2), (48, 1), (96, 2), (128, 2)), channels=(128, 128), pool="mean"),
  "CNN + GRU": dict(
    name="cnn_rnn", stages=((24, 2), (48, 1), (96, 2), (128, 2)), cell="gru", features=128, pool="mean"
  ),
  "CNN + LSTM with attention": dict(name="st_lstm", stages=((24, 2), (48, 1), (96, 2), (128, 1)), features=128),
  "ConvLSTM": dict(name="conv_lstm", stem=((16, 2), (24, 2)), hidden=(32, 48), neck=(96,)),
  "ConvGRU + GRU": dict(
    name="conv_lstm_rnn",
    stem=((16, 2), (24, 2)),
    hidden=(48,),
    neck=(96,),
    conv_cell="gru",
    cell="gru",
    features=96,
    pool="mean",
  ),
  "C3D": dict(name="c3d", stages=((16,), (32,), (64,), (128,)), join=(1, 3, 3), hidden=(256, 256)),
  "R3D": dict(name="resnet3d", depths=(1, 1, 1, 1), width=16),
  "R(2+1)D": dict(name="resnet3d", convolution="2+1d", depths=(1, 1, 1, 1), width=16, stem_middle=16),
  "I3D": dict(name="i3d", width=0.5, blocks=(2, 2, 1), norm_momentum=0.9),
  "S3D": dict(name="s3d", width=0.5, blocks=(2, 2, 1), norm_momentum=0.9),
  "ip-CSN": dict(name="csn", interaction="preserved", depths=(1, 1, 1), width=24),
  "X3D": dict(name="x3d", depths=(1, 2, 3), widths=(24, 48, 96), features=256),
  "SlowFast": dict(
    name="slowfast",
    beta=4,
    lateral_time=5,
    depths=(1, 1, 1),
    width=32,
    times_slow=((1,), (3,), (3,)),
    times_fast=((3,), (3,), (3,)),
  ),
  "ViViT": dict(
    name="vivit",
    width=128,
    depth=4,
    heads=4,
    hidden=256,
    patch=(2, 8, 8),
    form="factorised_encoder",
    time_depth=2,
  ),
  "TimeSformer": dict(name="timesformer", width=128, depth=4, heads=4, hidden=256, patch=(2, 8, 8)),
  "MViT": dict(name="mvit", width=48, stages=(1, 2, 1), kv_strides=(1, 4, 4)),
}


def get_config() -> ConfigDict:
  c = jhmdb_s3d.get_config()
  c.clip.update(num_frames=8, stride_f=4)
  c.pixels.update(short_side=46, crop=40)
  c.loader.batch_size = 8
  c.task.dropout = 0.2
  c.optim.lr_peak = 1e-3
  c.train = common.run(steps=1600, eval_every_steps=1600, eval_split="test")
  c.eval = dict(clips=1, crops=1)  # views per video at the end; 10 and 3 are usual for long videos
  return c


def get_ablations() -> dict[str, dict[str, Any]]:
  """The families; the baseline is the S3D-G of configs/jhmdb_s3d.py."""
  return {
    name: {"model" if key == "name" else f"model.{key}": value for key, value in model.items()}
    for name, model in FAMILIES.items()
  }
