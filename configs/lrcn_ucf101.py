"""UCF101, official split 1: LRCN, a CNN on every frame and one LSTM over 16 frames.

python -m experiments.launch --config=configs/lrcn_ucf101.py --config.data.root=/path/to/ucf101

Donahue et al., CVPR 2015, "Long-term Recurrent Convolutional Networks", section 4.1; values of the authors' release:
clips of 16 frames cut to 227 px from 320x240, 24 clips per step, SGD, dropout of 0.9 before and 0.5 behind the LSTM,
ten times the rate for the classifier, gradients cut to 5.
Differs from the paper: GoogLeNet in place of CaffeNet; 20 clips per video evenly spaced, theirs every 8 frames and
mirrored crops, too; 30,000 steps in one, theirs from a CNN that had been trained on single frames of UCF101.

The paper: 68.2 % top-1 with colour frames (67.4 % for its CNN alone), mean of the three splits, from ImageNet weights.
Its hardware is not stated; one GPU of 16 GB should hold a step. Not measured here.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
  c = ConfigDict()
  c.seed = 0
  c.data = dict(name="video_folder", layout="ucf101", split=1, validation_frac=0.1, short_side=240)
  c.clip = dict(num_frames=16, sampling="dense", stride_f=1, short="repeat")
  c.pixels = dict(short_side=240, crop=227, flip=True, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
  c.augment = dict()
  c.loader = dict(batch_size=24)
  c.model = dict(name="cnn_rnn", preset="lrcn")
  c.task = dict(name="classify", dropout=0.5)
  c.optim = dict(
    method="sgd",
    lr_peak=1e-3,
    schedule="step",
    milestones=(10000, 20000),
    gamma=0.1,
    warmup_steps=0,
    momentum=0.9,
    nesterov=False,
    weight_decay=5e-3,
    clip_norm=5.0,
    lr_scale=(("head", 10.0),),
  )
  c.train = common.run(steps=30000, eval_every_steps=3000)
  c.eval = dict(clips=20, crops=1, average="probabilities")
  return c
