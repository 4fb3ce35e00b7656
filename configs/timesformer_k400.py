"""Kinetics-400 with TimeSformer (Bertasius et al. 2021, "Is space-time attention all you need ...?").

python -m experiments.launch --config=configs/timesformer_k400.py --config.data.root=/path/to/kinetics400
python -m experiments.launch --config=configs/timesformer_k400.py:hr ...    # or long, joint, space

The recipe of the authors' code: 8 frames, every 32nd at 30 Hz (hr: 16 frames of 448 px, every 16th; long: 96, every
4th), short side 256 to 320 px (hr: 448 to 512); SGD with momentum 0.9, 15 epochs of 240,000 videos at a rate of 0.005,
a tenth of it from epochs 11 and 14 on, weight decay 1e-4, stochastic depth 0.1. The rate is for the 8 clips per step of
one machine with 8 GPUs; the authors used four such machines.

Validation top-1, 1x3 views: divided 77.9, hr 79.6, long 80.6; joint 77.0, space 76.9 (MMAction2), all from a
transformer trained on ImageNet-21k, which this config does not have unless it is imported; from nothing expect far
less. About 416 V100 hours for divided, by the paper's table 2. Not measured here.
"""

from ml_collections import ConfigDict

from configs import common
from vu_jax.errors import UserError

EPOCH = 240_000 // 8  # steps
# Preset, frames, frames per second, range of the short side and crop [px].
FORMS = {
  "divided": ("divided", 8, 30 / 32, (256, 320), 224),
  "joint": ("joint", 8, 30 / 32, (256, 320), 224),
  "space": ("space", 8, 30 / 32, (256, 320), 224),
  "hr": ("divided", 16, 30 / 16, (448, 512), 448),
  "long": ("divided", 96, 30 / 4, (256, 320), 224),
}


def get_config(arg: str = "divided") -> ConfigDict:
  if arg not in FORMS:
    raise UserError(f"configs/timesformer_k400.py:{arg}: there is no such form; take one of {', '.join(FORMS)}")
  preset, frames, rate_hz, (shortest, longest), crop = FORMS[arg]
  c = ConfigDict()
  c.seed = 0
  c.data = dict(name="video_folder", layout="kinetics", short_side=shortest)  # root is asked for
  c.clip = dict(num_frames=frames, sampling="rate", rate_hz=rate_hz, short="repeat")
  c.pixels = dict(
    short_side=shortest,
    crop=crop,
    window="jitter",
    jitter=(1.0, longest / shortest),
    flip=True,
    mean=(0.45, 0.45, 0.45),
    std=(0.225, 0.225, 0.225),
  )
  c.augment = dict()
  c.loader = dict(batch_size=8)
  c.model = dict(name="timesformer", preset=preset, drop_path=0.1, dtype="bfloat16")
  c.task = dict(name="classify")
  c.optim = dict(
    method="sgd",
    lr_peak=0.005,
    schedule="step",
    milestones=(11 * EPOCH, 14 * EPOCH),
    warmup_steps=0,
    weight_decay=1e-4,
    momentum=0.9,
    nesterov=False,
    clip_norm=0.0,
  )
  c.train = common.run(steps=15 * EPOCH, eval_every_steps=EPOCH)
  c.eval = dict(clips=1, crops=3, average="logits")
  return c
