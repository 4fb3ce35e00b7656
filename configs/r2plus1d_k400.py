"""Kinetics-400 with R(2+1)D-18, R3D-18 or MC3-18 (Tran et al. 2018, "A closer look at spatiotemporal convolutions").

python -m experiments.launch --config=configs/r2plus1d_k400.py --config.data.root=/path/to/kinetics400
python -m experiments.launch --config=configs/r2plus1d_k400.py:mc3_18 ...    # or another preset of resnet3d

torchvision's recipe, after that of the paper: 16 frames at 15 Hz, 128 px, crops of 112; SGD with momentum 0.9 on 64
GPUs with 24 clips each, 45 epochs of five clips of each of 240,000 videos; 10 epochs of warm-up to a rate of 0.64, a
tenth of it from epochs 20, 30 and 40 on; weight decay 1e-4 on all parameters. The rate is for 1,536 clips per step:
scale it with loader.batch_size. Differs: frames keep their aspect, torchvision's are squeezed to 171x128.

Validation top-1 / top-5, five clips of each video, centre crop: R(2+1)D-18 67.5 / 86.2, MC3-18 64.0 / 84.1, R3D-18
63.2 / 83.5; 24 hours on 64 V100. Not measured here.
"""

from ml_collections import ConfigDict

from configs import common

EPOCH = 240_000 * 5 // 1536  # steps


def get_config(arg: str = "r2plus1d_18") -> ConfigDict:
  c = ConfigDict()
  c.seed = 0
  c.data = dict(name="video_folder", layout="kinetics", short_side=128)  # root is asked for
  c.clip = dict(num_frames=16, sampling="rate", rate_hz=15.0, short="repeat")
  c.pixels = dict(
    short_side=128, crop=112, flip=True, mean=(0.43216, 0.394666, 0.37645), std=(0.22803, 0.22145, 0.216989)
  )
  c.augment = dict()
  c.loader = dict(batch_size=1536)
  c.model = dict(name="resnet3d", preset=arg, dtype="bfloat16")
  c.task = dict(name="classify")
  c.optim = dict(
    method="sgd",
    lr_peak=0.64,
    schedule="step",
    milestones=(20 * EPOCH, 30 * EPOCH, 40 * EPOCH),
    warmup_steps=10 * EPOCH,
    warmup_from_frac=1e-3,
    weight_decay=1e-4,
    decay_on="all",
    momentum=0.9,
    nesterov=False,
    clip_norm=0.0,
  )
  c.train = common.run(steps=45 * EPOCH, eval_every_steps=EPOCH)
  c.eval = dict(clips=5, crops=1, average="probabilities")
  return c
