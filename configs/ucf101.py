"""UCF101 (Soomro et al., CRCV-TR-12-01, 2012), official split 1, ConvLSTM from scratch.

python -m experiments.launch --config=configs/ucf101.py --config.data.root=/path/to/ucf101

root holds UCF-101/CLASS/*.avi and ucfTrainTestlist/*.txt as they are unpacked: 9,537 training and 3,783 test clips of
101 actions; --config.data.split=2 takes another split. A tenth of the training clips is for validation, in whole groups
of the dataset (clips that share actors or background), so that nothing is chosen by the test split.

Not measured yet.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
  c = ConfigDict()
  c.seed = 0
  c.data = dict(name="video_folder", layout="ucf101", split=1, validation_frac=0.1, short_side=128)
  c.clip = dict(num_frames=16, sampling="dense", stride_f=4, short="repeat")
  c.pixels = dict(short_side=72, crop=64, flip=True)
  c.augment = dict()
  c.loader = dict(batch_size=32)
  c.model = dict(name="conv_lstm", stem=((16, 2), (32, 2)), hidden=(32, 48), neck=(96,))
  c.task = dict(name="classify", label_smoothing=0.1, dropout=0.5)
  c.optim = common.optim(lr_peak=2e-3, warmup_steps=200, weight_decay=1e-2)
  c.train = common.run(steps=10000, eval_every_steps=1000)
  c.eval = dict(clips=1, crops=1)  # views per video at the end; 10 and 3 are usual for long videos
  return c
