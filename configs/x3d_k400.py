"""Kinetics-400 with X3D (Feichtenhofer 2020, "X3D: expanding architectures for efficient video recognition").

python -m experiments.launch --config=configs/x3d_k400.py --config.data.root=/path/to/kinetics400
python -m experiments.launch --config=configs/x3d_k400.py:s ...    # or xs, m, l

The recipe of the authors' code (PySlowFast, X3D_M.yaml and its neighbours), which starts from nothing: SGD with
Nesterov's momentum 0.9 on 8 GPUs with 16 clips each, 300 epochs of 240,000 videos, half a cosine wave from 0.1, of
which the first 35 epochs are a rise from 0.01; L: 8 clips per GPU, 256 epochs, half the rate. Weight decay 5e-5,
dropout 0.5. The rate is for 128 clips per step: scale it with loader.batch_size.

Validation top-1 with 10x1 and 10x3 views, the latter with larger crops: XS 68.7 / 69.5, S 73.1 / 73.5, M 75.1 / 76.2,
L 76.9 / 77.5. Not measured here.
"""

from ml_collections import ConfigDict

from configs import common
from vu_jax.errors import UserError

# Frames, frames per second (every 12th, 6th or 5th at 30 Hz), shortest side and crop [px].
CLIPS = {"xs": (4, 2.5, 182, 160), "s": (13, 5.0, 182, 160), "m": (16, 6.0, 256, 224), "l": (16, 6.0, 356, 312)}


def get_config(arg: str = "m") -> ConfigDict:
  if arg not in CLIPS:
    raise UserError(f"configs/x3d_k400.py:{arg}: there is no such size; take one of {', '.join(CLIPS)}")
  frames, rate_hz, short_side, crop = CLIPS[arg]
  batch, epochs = (64, 256) if arg == "l" else (128, 300)
  epoch = 240_000 // batch  # steps
  c = ConfigDict()
  c.seed = 0
  c.data = dict(name="video_folder", layout="kinetics", short_side=short_side)  # root is asked for
  c.clip = dict(num_frames=frames, sampling="rate", rate_hz=rate_hz, short="repeat")
  c.pixels = dict(
    short_side=short_side,
    crop=crop,
    window="jitter",
    jitter=(1.0, 1.25),
    flip=True,
    mean=(0.45,) * 3,
    std=(0.225,) * 3,
  )
  c.augment = dict()
  c.loader = dict(batch_size=batch)
  c.model = dict(name="x3d", preset=f"x3d_{arg}", dtype="bfloat16")
  c.task = dict(name="classify", dropout=0.5)
  c.optim = dict(
    method="sgd",
    lr_peak=0.1 * batch / 128,
    schedule="cosine",
    falls_from="start",
    warmup_steps=35 * epoch,
    warmup_from_frac=0.01 / (0.1 * batch / 128),
    weight_decay=5e-5,
    momentum=0.9,
    nesterov=True,
    clip_norm=0.0,
  )
  c.train = common.run(steps=epochs * epoch, eval_every_steps=10 * epoch)
  c.eval = dict(clips=10, crops=3, average="probabilities")
  return c
