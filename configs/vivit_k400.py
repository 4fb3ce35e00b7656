"""Kinetics-400 with ViViT (Arnab et al. 2021, "ViViT: a video vision transformer").

python -m experiments.launch --config=configs/vivit_k400.py --config.data.root=/path/to/kinetics400
python -m experiments.launch --config=configs/vivit_k400.py:b16x2 ...    # or another preset of vivit

The recipe of the authors' code: every second of 64 frames at 25 Hz, short side 256 px times 0.9 to 1.33, crops of 224,
pixels in -1 to 1; colours changed in 80 % of the clips and taken away in 10 %; SGD with momentum 0.9 on 64 clips per
step, 30 epochs of 214,834 videos, 2.5 of warm-up and half a cosine wave, gradients cut to 1, no weight decay; the rate
is 0.05 for the factorised encoder and 0.1 for the joint form. How much colours change is a guess here. On TPUs; the
authors do not say for how long.

Validation top-1, 4x3 views: ViViT-B/16x2 79.9, with factorised encoder 78.4, ViViT-L/16x2 with factorised encoder (24
blocks over time) 80.3, all from a transformer trained on ImageNet-21k, which this config does not have unless it is
imported; from nothing expect far less. Not measured here.
"""

from ml_collections import ConfigDict

from configs import common

EPOCH = 214_834 // 64  # steps


def get_config(arg: str = "b16x2_fe") -> ConfigDict:
  c = ConfigDict()
  c.seed = 0
  c.data = dict(name="video_folder", layout="kinetics", short_side=256)  # root is asked for
  c.clip = dict(num_frames=32, sampling="rate", rate_hz=12.5, short="loop")
  c.pixels = dict(
    short_side=256,
    crop=224,
    window="jitter",
    jitter=(0.9, 1.33),
    flip=True,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
  )
  c.augment = dict(
    brightness=0.125, contrast=0.4, saturation=0.4, hue_turn=0.2, colour_frac=0.8, grey_frac=0.1, colour_on="device"
  )
  c.loader = dict(batch_size=64)
  c.model = dict(name="vivit", preset=arg, dtype="bfloat16")
  c.task = dict(name="classify")
  c.optim = dict(
    method="sgd",
    lr_peak=0.05 if "fe" in arg else 0.1,
    schedule="cosine",
    warmup_steps=int(2.5 * EPOCH),
    weight_decay=0.0,
    momentum=0.9,
    nesterov=False,
    clip_norm=1.0,
  )
  c.train = common.run(steps=30 * EPOCH, eval_every_steps=EPOCH)
  c.eval = dict(clips=4, crops=3, average="logits")
  return c
