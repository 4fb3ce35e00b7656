"""The control: a frame average cannot see order, so on the motion dataset it must stay near chance (12.5 %).

python -m experiments.launch --config=configs/motion_frame_cnn.py

Same data and clips as configs/motion_convlstm.py.
11.0 % test top-1 (95 %: 8.3-14.4, 400 clips); one seed, 2026-11-21.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
  c = ConfigDict()
  c.seed = 0
  c.data = dict(name="motion", num_train=1600, num_validation=200, num_test=400)
  c.clip = dict(num_frames=4, sampling="dense", stride_f=1)
  c.pixels = dict(short_side=24, crop=24, flip=False)  # a mirrored "left" is a "right"
  c.augment = dict()  # nothing; see vu_jax/data/augmentation/augment.py
  c.loader = dict(batch_size=32)
  c.model = dict(name="frame_cnn", stages=((16, 2), (32, 2), (64, 2)))
  c.task = dict(name="classify")
  c.optim = common.optim(lr_peak=8e-3, warmup_steps=50)
  c.train = common.run(steps=900, eval_every_steps=300)
  c.eval = dict(clips=1, crops=1)  # views per video at the end; 10 and 3 are usual for long videos
  return c
