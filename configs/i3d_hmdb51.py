"""HMDB51, official split 1, with I3D, colour stream (Carreira & Zisserman 2017, "Quo vadis, action recognition?").

python -m experiments.launch --config=configs/i3d_hmdb51.py --config.data.root=/path/to/hmdb51

The paper's recipe: 64 frames at 25 Hz, shorter videos begin again, short side 256 px, crops of 224, pixels in -1 to 1;
SGD with momentum 0.9 on 16 GPUs, up to 5k steps. Clips per GPU (6), weight decay and dropout are taken from its
Kinetics run; it does not give the rate, which fell where validation stopped to improve: 0.01 and the milestones are
ours. So is batch norm's momentum: at the published 0.999 its statistics would not arrive within the run.
--config.data.split=2 takes another split.

Top-1, all frames in one centre crop, logits averaged: 74.8 % with networks trained on ImageNet and Kinetics (mean over
three splits), 49.8 % with ImageNet alone (split 1). This config starts from nothing, which will be far below. Not
measured here.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
  c = ConfigDict()
  c.seed = 0
  c.data = dict(name="video_folder", layout="hmdb51", split=1, validation_frac=0.1, short_side=256)  # root is asked for
  c.clip = dict(num_frames=64, sampling="rate", rate_hz=25.0, short="loop")
  c.pixels = dict(short_side=256, crop=224, flip=True, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
  c.augment = dict()
  c.loader = dict(batch_size=96)
  c.model = dict(name="i3d", preset="i3d", norm_momentum=0.9, dtype="bfloat16")
  c.task = dict(name="classify", dropout=0.5)
  c.optim = dict(
    method="sgd",
    lr_peak=0.01,
    schedule="step",
    milestones=(0.6, 0.85),
    warmup_steps=0,
    weight_decay=1e-7,
    momentum=0.9,
    nesterov=False,
    clip_norm=0.0,
  )
  c.train = common.run(steps=5000, eval_every_steps=500)
  c.eval = dict(clips=4, crops=1, average="logits")
  return c
