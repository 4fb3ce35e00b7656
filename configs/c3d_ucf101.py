"""UCF101, official split 1, with C3D (Tran et al. 2015, "Learning spatiotemporal features with 3D convolutions").

python -m experiments.launch --config=configs/c3d_ucf101.py --config.data.root=/path/to/ucf101
python -m experiments.launch --config=configs/c3d_ucf101.py:c3d ...    # the large network of section 3.3

The authors' recipe for their five-convolution network (section 3.1; C3D-v1.0, conv3d_ucf101_solver.prototxt), which
starts from nothing: 16 consecutive frames, 128 px, crops of 112; SGD with momentum 0.9 on 30 clips per step, 60,000
steps at a rate of 3e-3, a tenth of it from steps 20,000 and 40,000 on; weight decay 5e-3, dropout 0.5, biases at twice
the rate. Differs: frames keep their aspect, theirs are squeezed to 171x128; pixels are scaled; kernels start by He's
rule. --config.data.split=2 takes another split.

About 45 % of single test clips of split 1 (read off the paper's figure 2). The large network, trained on Sports-1M:
82.3 % top-1 with a linear SVM on fc6 (table 3), 83.1 % fine-tuned (MMAction2). Not measured here.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str = "c3d_ucf101") -> ConfigDict:
  c = ConfigDict()
  c.seed = 0
  c.data = dict(name="video_folder", layout="ucf101", split=1, validation_frac=0.1, short_side=128)  # root is asked for
  c.clip = dict(num_frames=16, sampling="dense", stride_f=1, short="repeat")
  c.pixels = dict(short_side=128, crop=112, flip=True)
  c.augment = dict()
  c.loader = dict(batch_size=30)
  c.model = dict(name="c3d", preset=arg, dtype="bfloat16")
  c.task = dict(name="classify", dropout=0.5)
  c.optim = dict(
    method="sgd",
    lr_peak=3e-3,
    schedule="step",
    milestones=(20_000, 40_000),
    warmup_steps=0,
    weight_decay=5e-3,
    momentum=0.9,
    nesterov=False,
    clip_norm=0.0,
    lr_scale=(("*/bias", 2.0),),
  )
  c.train = common.run(steps=60_000, eval_every_steps=2000)
  c.eval = dict(clips=10, crops=1, average="probabilities")
  return c
