"""A small R(2+1)D tells eight motions apart: convolutions in space, then in time.

python -m experiments.launch --config=configs/motion_r2plus1d.py

Same data as configs/motion_convlstm.py, on larger and longer clips.
100 % test top-1 (seed 0, 400 clips, 2026-11-21).
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
  c.model = dict(
    name="resnet3d",
    convolution="2+1d",  # "full" is R3D
    depths=(1, 1, 1),
    width=12,
    times=((3,), (3,), (3,)),
    time_strides=(1, 1, 2),
    stem_middle=12,
  )
  c.task = dict(name="classify")
  c.optim = common.optim(lr_peak=3e-3, warmup_steps=50)
  c.train = common.run(steps=300, eval_every_steps=100)
  c.eval = dict(clips=1, crops=1)  # views per video at the end; 10 and 3 are usual for long videos
  return c
