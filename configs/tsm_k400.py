"""Kinetics-400 with the temporal shift module on ResNet-50 (Lin et al. 2019, "TSM").

python -m experiments.launch --config=configs/tsm_k400.py --config.data.root=/path/to/kinetics400
python -m experiments.launch --config=configs/tsm_k400.py:tsm_r50_online ...    # or another preset of tsm

The recipe of the authors' code (train_tsm_kinetics_rgb_8f.sh): one frame of each of 8 parts of the video, crops of 168
to 256 px shown at 224; SGD with momentum 0.9 on 128 clips per step, 50 epochs of 240,000 videos at a rate of 0.02, a
tenth of it from epochs 20 and 40 on; weight decay 1e-4, dropout 0.5, gradients cut to 20, and the new classifier at
five times the rate (its bias at ten). Differs: sides of crops are drawn from a range and equal, theirs from four sizes
each.

Validation top-1 from ImageNet's weights, which this config does not have unless they are imported: 71.2 with one clip
and one crop per video, 72.8 with ten crops. Not measured here.
"""

from ml_collections import ConfigDict

from configs import common

EPOCH = 240_000 // 128  # steps


def get_config(arg: str = "tsm_r50") -> ConfigDict:
  c = ConfigDict()
  c.seed = 0
  c.data = dict(name="video_folder", layout="kinetics", short_side=256)  # root is asked for
  c.clip = dict(num_frames=8, sampling="segments", short="repeat")
  c.pixels = dict(
    short_side=256,
    crop=224,
    window="jitter",
    jitter=(0.875, 1.33),
    flip=True,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
  )
  c.augment = dict()
  c.loader = dict(batch_size=128)
  c.model = dict(name="tsm", preset=arg, dtype="bfloat16")
  c.task = dict(name="classify", dropout=0.5)
  c.optim = dict(
    method="sgd",
    lr_peak=0.02,
    schedule="step",
    milestones=(0.4, 0.8),
    warmup_steps=0,
    weight_decay=1e-4,
    momentum=0.9,
    nesterov=False,
    clip_norm=20.0,
    lr_scale=(("head", 5.0), ("head/logits/bias", 10.0)),
  )
  c.train = common.run(steps=50 * EPOCH, eval_every_steps=EPOCH)
  c.eval = dict(clips=1, crops=1)
  return c
