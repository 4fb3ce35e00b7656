"""A small C3D tells eight motions apart: 3x3x3 convolutions, pools and two fully connected layers.

python -m experiments.launch --config=configs/motion_c3d.py

Same data as configs/motion_convlstm.py, on larger and longer clips.
100 % test top-1 (95 %: 99.0-100, 400 clips); one seed, 2026-11-21.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
  c = ConfigDict()
  c.seed = 0
  c.data = dict(name="motion", num_train=1600, num_validation=200, num_test=400)
  c.clip = dict(num_frames=8, sampling="dense", stride_f=1)
  c.pixels = dict(short_side=32, crop=32, flip=False)  # a mirrored "left" is a "right"
  c.augment = dict()  # nothing; see vu_jax/data/augmentation/augment.py
  c.loader = dict(batch_size=32)
  c.model = dict(name="c3d", stages=((16,), (32,), (64,)), join=(1, 4, 4), hidden=(128, 128), dropout=0.2)
  c.task = dict(name="classify")
  c.optim = common.optim(lr_peak=1e-3, warmup_steps=50)
  c.train = common.run(steps=300, eval_every_steps=100)
  c.eval = dict(clips=1, crops=1)  # views per video at the end; 10 and 3 are usual for long videos
  return c
