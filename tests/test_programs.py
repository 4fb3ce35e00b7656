"""Programs end to end: launch, evaluate, predict, prepare on a small version of the shipped main job."""

import json
import pathlib
import re
from functools import partial

import numpy as np
import pytest
from programs import Ended, call, job

from vu_jax.data.motion_scene import Scene, draw
from vu_jax.data.video.transcode import encode_video


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, data_dir: pathlib.Path) -> pathlib.Path:
  """The run directory of one small launch."""
  run_dir = tmp_path_factory.mktemp("runs") / "small"
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr("sys.argv", ["experiments/launch.py", *job(run_dir, data_dir)])
    from experiments import launch

    launch.main()
  return run_dir


@pytest.fixture
def program(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> partial[Ended]:
  return partial(call, capsys=capsys, monkeypatch=monkeypatch)


def write_video(path: pathlib.Path, frames: int = 12, seed: int = 0, size: int = 48) -> pathlib.Path:
  """A short drawn clip as an mp4 file."""
  scene = Scene(size, frames, 2, 6.0, (0.06, 0.12), (0.03, 0.06))
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(encode_video(draw(scene, "left", np.random.default_rng(seed)), 12.0).video)
  return path


def test_launch_leaves_all_records(finished: pathlib.Path):
  """A run ends with figures, predictions, curves, checkpoints, examples and a report that hold together."""
  result = json.loads((finished / "result.json").read_text())
  assert result["step"] == 6
  assert result["test"]["num_clips"] == 18
  counts = np.array(result["confusion"]["test"])
  assert counts.sum() == 18
  assert result["test"]["top1"] == pytest.approx(np.trace(counts) / 18)
  predictions = [json.loads(line) for line in (finished / "predictions_test.jsonl").read_text().splitlines()]
  hits = sum(int(np.argmax(p["probabilities"])) == p["label"] for p in predictions)
  assert len({p["id"] for p in predictions}) == 18
  assert result["test"]["top1"] == pytest.approx(hits / 18)
  rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
  assert [r["step"] for r in rows if r["split"] == "train"] == [2, 4, 6]
  assert [r["step"] for r in rows if r["split"] == "validation"] == [4, 6]
  assert (finished / "report.html").stat().st_size > 10_000
  assert list((finished / "tensorboard").iterdir())
  assert len(json.loads((finished / "examples" / "examples.json").read_text())) > 0


def test_a_finished_run_started_again_changes_nothing(finished, data_dir, program):
  """The same command after the end restores, evaluates and reports the same figures."""
  before = json.loads((finished / "result.json").read_text())
  lines = (finished / "metrics.jsonl").read_text()
  ended = program("launch", *job(finished, data_dir))
  assert ended.code == 0, ended.err
  assert json.loads((finished / "result.json").read_text())["test"] == before["test"]
  assert (finished / "metrics.jsonl").read_text() == lines


def test_dry_run_measures_and_leaves_nothing(data_dir, program, tmp_path):
  """It says what would happen, times loader and step, answers for a cluster, and does not begin."""
  ended = program("launch", *job(tmp_path / "dry", data_dir), "--plan=256,10e6", "--chip=tpu-v4")
  assert ended.code == 0, ended.err
  for name in ("model", "loader", "step", "verdict", "store", "decoding", "memory", "checkpoint", "time"):
    assert re.search(rf"^ *{name}  \S", ended.out, re.MULTILINE), ended.out
  assert "on 256 chips with 10,000,000 training clips" in ended.out
  assert not (tmp_path / "dry").exists()
  ended = program("launch", *job(tmp_path / "dry", data_dir), "--plan=many")
  assert ended.code == 2
  assert "CHIPS,CLIPS" in ended.err


def test_a_run_does_not_go_on_with_other_data(finished, data_dir, program):
  """What was prepared from changed sources is other data, under the same config; where it lies is not."""
  note = finished / "dataset.json"
  text = note.read_text()
  about = json.loads(text)
  here = pathlib.Path(about["directory"])
  note.write_text(json.dumps(about | {"directory": str(here.parent.with_name("0123456789ab") / here.name)}))
  ended = program("launch", *job(finished, data_dir))
  note.write_text(text)
  assert ended.code == 2
  assert "begun with other data" in ended.err


def test_evaluate_repeats_the_figures_and_adds_splits(finished, program):
  """Evaluating a run again gives the same test figures; another split is added beside them."""
  before = json.loads((finished / "result.json").read_text())
  assert program("evaluate", f"--run={finished}").code == 0
  assert program("evaluate", f"--run={finished}", "--split=validation").code == 0
  after = json.loads((finished / "result.json").read_text())
  assert after["test"] == before["test"]
  assert after["validation"]["num_clips"] == 10
  assert after["provenance"] == before["provenance"]


def test_predict_on_a_stored_clip_gives_the_evaluation(finished, data_dir, program, tmp_path):
  """A test clip, written out as a file, gets the probabilities that the evaluation gave it."""
  from vu_jax.data.source import PreparedSource

  directory = pathlib.Path(json.loads((finished / "dataset.json").read_text())["directory"])
  example = PreparedSource(directory, "test")[3]
  (tmp_path / "clip.mp4").write_bytes(example["video"])
  # Four frames of eight: the windows of the clip begin at 0, 2 and 4; evaluation takes the one at 2.
  assert program("predict", f"--run={finished}", f"--json={tmp_path / 'p.json'}", str(tmp_path / "clip.mp4")).code == 0
  found = json.loads((tmp_path / "p.json").read_text())["files"][0]
  assert [w["start_s"] for w in found["windows"]] == pytest.approx([0, 2 / 12, 4 / 12], abs=1e-3)
  rows = [json.loads(line) for line in (finished / "predictions_test.jsonl").read_text().splitlines()]
  wanted = next(r["probabilities"] for r in rows if r["id"] == example["id"])
  assert list(found["windows"][1]["probabilities"].values()) == pytest.approx(wanted, abs=2e-4)
  mean = np.mean([list(w["probabilities"].values()) for w in found["windows"]], axis=0)
  assert list(found["probabilities"].values()) == pytest.approx(mean, abs=2e-5)


def test_predict_goes_on_after_a_bad_file(finished, program, tmp_path):
  """One unreadable file costs one line and exit code 2; the others are still answered."""
  good = write_video(tmp_path / "good.mp4")
  (tmp_path / "bad.mp4").write_bytes(b"no video at all")
  ended = program("predict", f"--run={finished}", str(tmp_path / "bad.mp4"), str(good), str(tmp_path / "gone.mp4"))
  assert ended.code == 2
  lines = ended.err.strip().splitlines()
  assert len(lines) == 2
  assert "bad.mp4" in lines[0]
  assert "gone.mp4: no such file" in lines[1]
  assert "good.mp4" in ended.out


def test_prepare_says_what_is_in_a_folder(program, tmp_path):
  """Counts, sizes and the reason of a rejected file are printed; one bad file in twelve does not stop it."""
  for label in ("a", "b"):
    for i in range(6):
      write_video(tmp_path / "videos" / label / f"{i}.mp4", seed=i)
  (tmp_path / "videos" / "a" / "broken.mp4").write_bytes(b"not a video")
  ended = program(
    "prepare",
    "--config=configs/my_videos.py",
    f"--config.data.root={tmp_path / 'videos'}",
    f"--data_dir={tmp_path / 'd'}",
  )
  assert ended.code == 0, ended.err
  assert "48x48" in ended.out
  assert "rejected a/broken.mp4" in ended.out


# Bad input. Each: what is typed, and what the one line must name.
def _one_line(ended: Ended, *named: str) -> None:
  lines = ended.err.strip().splitlines()
  assert ended.code == 2
  assert len(lines) == 1, ended.err
  assert lines[0].startswith("error: ")
  for text in named:
    assert text in lines[0], lines[0]


@pytest.mark.parametrize(
  ("changes", "named"),
  [
    ({"model__hiden": "(4,)"}, ["config.model.hiden", '"hidden"']),
    ({"modle__hidden": "(4,)"}, ["modle", '"model"']),
    ({"optim__lr_peak": "fast"}, ["config.optim.lr_peak", "'fast'", "number"]),
    ({"loader__batch_size": "2.5"}, ["config.loader.batch_size", "2.5", "int"]),
    ({"loader__batch_size": "0"}, ["config.loader.batch_size = 0", "at least 1"]),
    ({"pixels__crop": "-3"}, ["config.pixels.crop = -3", "at least 1"]),
    ({"model__hidden": "(4,0)"}, ["config.model.hidden[1] = 0"]),
    ({"model__name": "conv_lstn"}, ["config.model.name", '"conv_lstm"']),
    ({"clip__num_frames": "9"}, ["9 frames", "has 8", "config.clip.num_frames"]),
    ({"clip__num_frames": "1", "pixels__seen": "differences"}, ["config.pixels.seen", "at least 2 frames", "not 1"]),
    ({"pixels__crop": "40"}, ["config.pixels.crop = 40", "16x16"]),
    ({"train__eval_split": "val"}, ["eval_split", "validation"]),
    ({"optim__warmup_steps": "6"}, ["warmup_steps = 6", "train.steps = 6"]),
    ({"model__stem": "((4,2,2),)"}, ["config.model.stem[0]", "2 entries"]),
  ],
)
def test_bad_value_is_one_line(changes, named, program, tmp_path, data_dir):
  """A config that cannot work is refused in one line, before anything is written."""
  ended = program("launch", *job(tmp_path / "run", data_dir, **changes))
  _one_line(ended, *named)
  assert not (tmp_path / "run").exists()


def test_model_that_refuses_the_length(program, tmp_path, data_dir, monkeypatch):
  """A model that cannot take T says so in one line, with the model's own reason; here a user's own model."""
  (tmp_path / "ownmodels").mkdir()
  (tmp_path / "ownmodels" / "halving.py").write_text(
    "import flax.linen as nn\n"
    "class Model(nn.Module):\n"
    "  dtype: str = 'float32'\n"
    "  @nn.compact\n"
    "  def __call__(self, video, *, train):\n"
    "    if video.shape[1] % 2: raise ValueError('T must be even')\n"
    "    return {'tokens': video, 'pooled': video.mean((1, 2, 3))}\n"
  )
  monkeypatch.syspath_prepend(tmp_path)
  arguments = [a for a in job(tmp_path / "run", data_dir, clip__num_frames="3") if not a.startswith("--config.model.")]
  config = tmp_path / "own.py"
  config.write_text(
    "from configs import motion_convlstm\n"
    "def get_config():\n"
    "  c = motion_convlstm.get_config()\n"
    "  c.model = dict(name='ownmodels.halving')\n"
    "  return c\n"
  )
  arguments[0] = f"--config={config}"
  _one_line(program("launch", *arguments), "halving", "3 frames", "T must be even", "config.clip.num_frames")


def test_missing_things_are_one_line(program, tmp_path, data_dir, finished):
  """Files and folders that are not there are named."""
  _one_line(program("launch", "--config=configs/motion_convlstn.py"), "no such file", '"motion_convlstm"')
  _one_line(program("launch"), "--config")
  _one_line(program("launch", "--config=configs/motion_convlstm.py", "--wrokdir=x"), "--wrokdir", '"--workdir"')
  _one_line(program("launch", "--config=configs/motion_convlstm.py", "--config.seed"), "--config.seed", "no value")
  _one_line(program("evaluate", f"--run={tmp_path / 'none'}"), "not a run directory")
  _one_line(program("evaluate", f"--run={finished}", "--split=tset"), "tset", "test")
  _one_line(program("predict", f"--run={finished}", "--config.seed=1", "x.mp4"), "--config.seed", "trained with")
  _one_line(program("evaluate", f"--run={finished}", "--config.seed=1"), "--config.seed", "trained with")
  _one_line(program("predict", f"--run={finished}", f"--json={finished / 'config.json'}", "x.mp4"), "exists already")


def videos_job(tmp_path: pathlib.Path, **changes: str) -> list[str]:
  return job(
    tmp_path / "run", tmp_path / "d", config="configs/my_videos.py", data__root=str(tmp_path / "videos"), **changes
  )


def test_bad_video_folders_are_one_line(program, tmp_path):
  """A missing folder, one without videos, a class with one clip, and only unreadable videos."""
  _one_line(program("launch", *videos_job(tmp_path)), "no folder", "videos")
  (tmp_path / "videos" / "a").mkdir(parents=True)
  (tmp_path / "videos" / "a" / "notes.txt").write_text("nothing")
  _one_line(program("launch", *videos_job(tmp_path)), "videos")
  write_video(tmp_path / "videos" / "a" / "1.mp4")
  write_video(tmp_path / "videos" / "a" / "2.mp4", seed=1)
  write_video(tmp_path / "videos" / "lonely" / "1.mp4")
  _one_line(program("launch", *videos_job(tmp_path)), "lonely", "only one clip")
  (tmp_path / "videos" / "lonely" / "2.mp4").write_bytes(b"junk")
  _one_line(program("launch", *videos_job(tmp_path)), "lonely/2.mp4")
  assert not (tmp_path / "run").exists()


def test_bad_tables_are_one_line(program, tmp_path):
  """A CSV that is missing, or lacks a column."""
  write_video(tmp_path / "videos" / "1.mp4")
  _one_line(program("launch", *videos_job(tmp_path, data__csv="clips.csv")), "clips.csv")
  (tmp_path / "videos" / "clips.csv").write_text("path,lable,split\n1.mp4,a,train\n")
  _one_line(program("launch", *videos_job(tmp_path, data__csv="clips.csv")), "label", "lable")


def test_another_runs_directory_is_kept(program, tmp_path, data_dir, finished):
  """A directory that holds another run, or anything else, is refused and left as it is."""
  before = {p: p.read_bytes() for p in finished.rglob("*") if p.is_file()}
  _one_line(program("launch", *job(finished, data_dir, seed="7")), "holds another run", "seed: 0 there, 7 here")
  assert {p: p.read_bytes() for p in finished.rglob("*") if p.is_file()} == before
  (tmp_path / "thesis").mkdir()
  (tmp_path / "thesis" / "chapter.tex").write_text("precious")
  _one_line(program("launch", *job(tmp_path / "thesis", data_dir)), "not a run directory")
