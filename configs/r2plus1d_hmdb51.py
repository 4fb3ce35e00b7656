"""HMDB51, official split 1, with R(2+1)D-34 (Tran et al. 2018, "A closer look at spatiotemporal convolutions").

python -m experiments.launch --config=configs/r2plus1d_hmdb51.py --config.data.root=/path/to/hmdb51

The authors' fine-tuning (VMZ, finetune_hmdb51.sh): 32 consecutive frames, 128 px, crops of 112; SGD with Nesterov's
momentum 0.9 on 8 GPUs with 4 clips each, 8 epochs of 40,000 clips, rate 1.6e-3, a tenth of it after every second
epoch, weight decay 5e-3. Differs: frames keep their aspect, theirs are squeezed to 171x128. --config.data.split=2
takes another split.

After training on Kinetics: 74.5 % top-1 (the paper, colour stream, mean over three splits), 66.1 % of single clips of
split 1 (VMZ). This config starts from nothing, which will be far below; for that raise the rate. Not measured here.
"""

from ml_collections import ConfigDict

from configs import common, r2plus1d_ucf101

EPOCH = 40_000 // 32  # steps


def get_config() -> ConfigDict:
  c = r2plus1d_ucf101.get_config()
  c.data.layout = "hmdb51"
  c.optim.lr_peak = 1.6e-3
  c.train = common.run(steps=8 * EPOCH, eval_every_steps=EPOCH)
  return c
