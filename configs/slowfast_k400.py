"""Kinetics-400 with SlowFast (Feichtenhofer et al. 2019, "SlowFast networks for video recognition").

python -m experiments.launch --config=configs/slowfast_k400.py --config.data.root=/path/to/kinetics400
python -m experiments.launch --config=configs/slowfast_k400.py:r50_4x16 ...    # or another preset of slowfast

The recipe of the authors' code (PySlowFast, SLOWFAST_8x8_R50.yaml), which starts from nothing: 32 frames, every second
one at 30 Hz, short sides of 256 to 320 px, crops of 224; SGD with Nesterov's momentum 0.9 on 8 GPUs with 8 clips each,
196 epochs of 240,000 videos, half a cosine wave from 0.1, of which the first 34 epochs are a rise from 0.01; weight
decay 1e-4, dropout 0.5. The rate is for 64 clips per step: scale it with loader.batch_size (the paper: 1.6 for 1,024).

Validation top-1, 10x3 views with crops of 256: 77.0 (8x8), 75.6 (4x16); 5 to 7 days on 8 GPUs. Not measured here.
"""

from ml_collections import ConfigDict

from configs import common

EPOCH = 240_000 // 64  # steps


def get_config(arg: str = "r50_8x8") -> ConfigDict:
  c = ConfigDict()
  c.seed = 0
  c.data = dict(name="video_folder", layout="kinetics", short_side=256)  # root is asked for
  c.clip = dict(num_frames=64 if arg == "r101_16x8" else 32, sampling="rate", rate_hz=15.0, short="repeat")
  c.pixels = dict(
    short_side=256, crop=224, window="jitter", jitter=(1.0, 1.25), flip=True, mean=(0.45,) * 3, std=(0.225,) * 3
  )
  c.augment = dict()
  c.loader = dict(batch_size=64)
  c.model = dict(name="slowfast", preset=arg, dtype="bfloat16")
  c.task = dict(name="classify", dropout=0.5)
  c.optim = dict(
    method="sgd",
    lr_peak=0.1,
    schedule="cosine",
    falls_from="start",
    warmup_steps=34 * EPOCH,
    warmup_from_frac=0.1,
    weight_decay=1e-4,
    momentum=0.9,
    nesterov=True,
    clip_norm=0.0,
  )
  c.train = common.run(steps=196 * EPOCH, eval_every_steps=10 * EPOCH)
  c.eval = dict(clips=10, crops=3, average="probabilities")
  return c
