"""A dataset that TFDS prepared elsewhere (ucf101, moving_mnist, ...), read without TensorFlow.

python -m experiments.launch --config=configs/tfds_folder.py --config.data.root=/path/to/ucf101/ucf101_1_256/2.0.0

The directory is one that `tfds.load` or `download_and_prepare` has written, as TFRecord or ArrayRecord; it is only
read. TFDS keeps no frame rate, so give it with --config.data.fps. A set without a training split names another:
moving_mnist takes --config.data.train_split=test, and a fifth of that becomes our test split. To look first:
--config.data.max_clips=20.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
  c = ConfigDict()
  c.seed = 0
  c.data = dict(name="tfds_folder", root="~/tensorflow_datasets/ucf101/ucf101_1_256", fps=25.0, short_side=128)
  c.clip = dict(num_frames=12, sampling="segments", short="repeat")
  c.pixels = dict(short_side=72, crop=64, flip=True)
  c.augment = dict()
  c.loader = dict(batch_size=16)
  c.model = dict(name="conv_lstm", stem=((16, 2), (32, 2)), hidden=(32, 48), neck=(96,))
  c.task = dict(name="classify", label_smoothing=0.1, dropout=0.3)
  c.optim = common.optim(lr_peak=2e-3, warmup_steps=50, weight_decay=1e-2)
  c.train = common.run(steps=1000, eval_every_steps=250, eval_split="test")
  c.eval = dict(clips=1, crops=1)  # views per video at the end; 10 and 3 are usual for long videos
  return c
