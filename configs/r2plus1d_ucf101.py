"""UCF101, official split 1, with R(2+1)D-34 (Tran et al. 2018, "A closer look at spatiotemporal convolutions").

python -m experiments.launch --config=configs/r2plus1d_ucf101.py --config.data.root=/path/to/ucf101

The authors' fine-tuning (VMZ, finetune_ucf101.sh): 32 consecutive frames, 128 px, crops of 112; SGD with Nesterov's
momentum 0.9 on 8 GPUs with 4 clips each, 8 epochs of 100,000 clips, rate 8e-4, a tenth of it after every second epoch,
weight decay 5e-3. Differs: frames keep their aspect, theirs are squeezed to 171x128. --config.data.split=2 takes
another split.

Top-1 after training on Kinetics: 96.8 % (the paper, colour stream, mean over three splits). This config starts from
nothing, which will be far below; for that raise the rate. Not measured here.
"""

from ml_collections import ConfigDict

from configs import common

EPOCH = 100_000 // 32  # steps


def get_config() -> ConfigDict:
  c = ConfigDict()
  c.seed = 0
  c.data = dict(name="video_folder", layout="ucf101", split=1, validation_frac=0.1, short_side=128)  # root is asked for
  c.clip = dict(num_frames=32, sampling="dense", stride_f=1, short="repeat")
  c.pixels = dict(
    short_side=128, crop=112, flip=True, mean=(0.43216, 0.394666, 0.37645), std=(0.22803, 0.22145, 0.216989)
  )
  c.augment = dict()
  c.loader = dict(batch_size=32)
  c.model = dict(name="resnet3d", preset="r2plus1d_34", dtype="bfloat16")
  c.task = dict(name="classify")
  c.optim = dict(
    method="sgd",
    lr_peak=8e-4,
    schedule="step",
    milestones=(0.25, 0.5, 0.75),
    warmup_steps=0,
    weight_decay=5e-3,
    momentum=0.9,
    nesterov=True,
    clip_norm=0.0,
  )
  c.train = common.run(steps=8 * EPOCH, eval_every_steps=EPOCH)
  c.eval = dict(clips=10, crops=1, average="probabilities")
  return c
