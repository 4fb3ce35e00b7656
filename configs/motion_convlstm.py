"""The main job: a ConvLSTM tells eight motions apart.

No download: the clips are drawn. Single frames say nothing about the label, so this measures motion alone.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
  c = ConfigDict()
  c.seed = 0
  c.data = dict(name="motion", num_train=2000, num_validation=200, num_test=400)
  c.clip = dict(num_frames=4, sampling="dense", stride_f=1)
  c.pixels = dict(short_side=32, crop=32, flip=False)  # a mirrored "left" is a "right"
  c.loader = dict(batch_size=32)
  c.model = dict(name="conv_lstm", stem_features=(8, 16), stem_strides=(2, 1), hidden=(16, 32))
  c.task = dict(name="classify")
  c.optim = common.optim(lr_peak=5e-3, warmup_steps=50)
  c.train = common.run(steps=800, eval_every_steps=200)
  return c
