"""Kinetics-400 with S3D or S3D-G (Xie et al. 2018, "Rethinking spatiotemporal feature learning").

python -m experiments.launch --config=configs/s3d_k400.py --config.data.root=/path/to/kinetics400
python -m experiments.launch --config=configs/s3d_k400.py:s3dg ...    # or another preset of vu_jax/models/s3d.py

The paper's recipe: 64 consecutive frames, 256 px, crops of 224; SGD with momentum 0.9 on 56 GPUs with 6 clips each,
80k steps from rate 0.1, a tenth of it from step 60k on and again from 70k; weight decay 1e-7 and dropout 0.2 are those
of the authors' and of torchvision's code. The rate is for 336 clips per step: scale it with loader.batch_size.

Validation top-1 / top-5: S3D 72.2 / 90.6, S3D-G 74.7 / 93.4, all frames of a video in one centre crop, both begun from
an ImageNet network, which this config does not do. From scratch torchvision's recipe (768 clips per step, rate 0.2)
reports 68.4 / 88.1 for one clip of 128 frames at 15 Hz per video. Not measured here.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str = "s3d") -> ConfigDict:
  c = ConfigDict()
  c.seed = 0
  c.data = dict(name="video_folder", layout="kinetics", short_side=256)  # root is asked for
  c.clip = dict(num_frames=64, sampling="rate", rate_hz=25.0, short="loop")
  c.pixels = dict(short_side=256, crop=224, flip=True, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
  c.augment = dict()
  c.loader = dict(batch_size=336)
  c.model = dict(name="s3d", preset=arg, dtype="bfloat16")
  c.task = dict(name="classify", dropout=0.2)
  c.optim = dict(
    method="sgd",
    lr_peak=0.1,
    schedule="step",
    milestones=(60_000, 70_000),
    warmup_steps=0,
    weight_decay=1e-7,
    momentum=0.9,
    nesterov=False,
    clip_norm=0.0,
  )
  c.train = common.run(steps=80_000, eval_every_steps=5000)
  c.eval = dict(clips=4, crops=1, average="logits")  # four times 64 frames are all of 10 s
  return c
