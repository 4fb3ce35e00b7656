"""Sound: it lies where the pictures say, to the millisecond, in files, in the store, and in batches."""

import pathlib
import wave
from dataclasses import replace
from typing import Any

import av
import numpy as np
import pytest
from films import FRAMES, film

from configs import motion_frame_cnn
from experiments.running.assemble import assemble
from vu_jax.data.audio.store import encode_track, read_sound, stored_sound
from vu_jax.data.audio.track import Track, read_track
from vu_jax.data.audio.window import Audio, clip_sound, middle, num_samples
from vu_jax.data.builders.video_folder import Options, fingerprint
from vu_jax.data.clips import Clip
from vu_jax.data.loader import Loader, eval_batches, load_clip, train_batches
from vu_jax.data.prepare import check_stored, prepare, read_facts
from vu_jax.data.source import PreparedSource
from vu_jax.data.video.decode import iterate_frames
from vu_jax.data.video.packets import VideoError
from vu_jax.data.video.transcode import transcode
from vu_jax.data.video.view import Pixels
from vu_jax.errors import UserError

HZ = 16000


def flash_s(path: pathlib.Path) -> float:
  (time_s,) = [time_s for time_s, rgb in iterate_frames(path) if rgb.mean() > 128]
  return time_s


def click_s(samples: np.ndarray, rate_hz: int) -> float:
  return float(np.abs(samples.astype(float)).argmax() / rate_hz)


KINDS = [
  ("a.mp4", "aac", 44100), ("a.mp4", "libopus", 48000), ("a.mov", "pcm_s16le", 22050), ("a.mkv", "aac", 48000),
  ("a.mkv", "libopus", 48000), ("a.mkv", "libmp3lame", 32000), ("a.mkv", "flac", 8000), ("a.ts", "aac", 44100),
  ("a.ts", "mp2", 48000), ("a.webm", "libopus", 24000),
]  # fmt: skip
STARTS = [(0.0, 0.0, "mono"), (0.3, 0.0, "stereo"), (0.0, 0.35, "mono")]


@pytest.mark.parametrize(("name", "codec", "rate_hz"), [*KINDS, ("a.avi", "pcm_s16le", 44100)])
def test_the_click_lies_at_the_flash(name: str, codec: str, rate_hz: int, tmp_path: pathlib.Path):
  """To within a millisecond, whichever stream begins first, and read as a whole, from the middle or from the store.

  Encoders put samples in front, containers round times to a millisecond, and an AVI has no times at all.
  """
  for sound_s, video_s, layout in STARTS[:1] if name == "a.avi" else STARTS:
    path = film(tmp_path / name, (codec, rate_hz, layout), sound_s=sound_s, video_s=video_s)
    flash = flash_s(path)
    for start_s in (0.0, 0.6):
      track = read_track(path, HZ, start_s, 0.96)
      assert track is not None
      assert start_s + track.first / HZ + click_s(track.samples, HZ) == pytest.approx(flash, abs=1e-3)
      assert track.first + len(track.samples) <= 0.96 * HZ
      content = encode_track(track)
      for hz in (8000, 16000, 22050, 48000):
        found = read_sound(content, -0.1, hz, hz)
        assert start_s - 0.1 + click_s(found.samples, hz) == pytest.approx(flash, abs=1e-3)
    if sound_s:
      assert read_track(path, HZ, 0.0, 0.25) is None


def test_a_part_of_a_video_has_the_sound_of_that_part(tmp_path: pathlib.Path):
  """From its first frame, which begins a little after the part does, to the end of its last one."""
  path = film(tmp_path / "a.mp4", ("aac", 44100, "mono"), flash=30, sound_s=0.1)  # at 1.2 s
  part = transcode(path, short_side=48, start_s=0.81, end_s=1.41)
  assert (part.first_s, part.num_frames) == (pytest.approx(0.84), 15)
  found = read_sound(stored_sound(path, part, HZ), 0.0, HZ, HZ)
  assert click_s(found.samples, HZ) == pytest.approx(1.2 - 0.84, abs=1e-3)
  assert (found.first, found.last) == (0, round(0.6 * HZ))


def noise(count: int, seed: int = 0) -> np.ndarray:
  """Sound that is nowhere the same, without the highest frequencies."""
  drawn = np.random.default_rng(seed).normal(size=count + 8)
  return (np.convolve(drawn, np.hanning(9), "valid")[:count] * 3000).astype(np.int16)


def test_stored_sound_is_the_sound():
  """Bit by bit, in any stretch; beyond its ends there is silence, and it is said where."""
  track = Track(noise(20000), 1000, HZ)
  content = encode_track(track)
  line = np.zeros(30000, np.int16)
  line[5000 + 1000 : 5000 + 21000] = track.samples  # sample 0 is at 5000
  for start, count in ((-5000, 30000), (3000, 1), (5096, 4096), (900, 300), (20500, 900), (-3000, 500), (22000, 9)):
    found = read_sound(content, start / HZ, HZ, count)
    np.testing.assert_array_equal(found.samples * 32768, line[5000 + start : 5000 + start + count].astype(float))
    inside = (np.arange(start, start + count) >= 1000) & (np.arange(start, start + count) < 21000)
    assert (np.arange(count) >= found.first).tolist() == (np.cumsum(inside) > 0).tolist() or not inside.any()
    assert found.last - found.first == inside.sum()
  assert len(content) < 2 * len(track.samples)


def test_a_stretch_is_read_without_the_rest():
  """Frames of other stretches may be ruined."""
  content = bytearray(encode_track(Track(noise(40000), 0, HZ)))
  clean = read_sound(bytes(content), 1.0, HZ, 3000).samples
  content[-20000:] = bytes(20000)
  content[500:6000] = bytes(5500)
  np.testing.assert_array_equal(read_sound(bytes(content), 1.0, HZ, 3000).samples, clean)
  with pytest.raises(VideoError, match="damaged: its sound"):
    read_sound(bytes(content), 2.0, HZ, 3000)
  with pytest.raises(VideoError, match="it has no sound"):
    read_sound(b"", 0.0, HZ, 10)


@pytest.mark.parametrize("hz", [8000, 11025, 22050, 44100, 48000])
def test_a_stretch_is_resampled_as_the_whole(hz: int):
  """The same samples, up to rounding, as if the whole track had been resampled and then cut; ends included."""
  content = encode_track(Track(noise(32000), 160, HZ))
  whole = read_sound(content, 0.0, hz, 3 * hz)
  assert whole.first == -(-160 * hz // HZ)
  for start_s, count in ((0.0, 50), (0.30003, 700), (1.2345, 1000), (1.99, hz // 10)):
    start = round(start_s * hz)
    part = read_sound(content, start_s, hz, count)
    np.testing.assert_allclose(part.samples, whole.samples[start : start + count], atol=2e-5)
    assert (part.first, part.last) == tuple(np.clip([whole.first - start, whole.last - start], 0, count))


def test_lost_packets_are_silence(tmp_path: pathlib.Path):
  """What follows a gap stays in its place."""
  samples = noise(HZ * 2).astype(np.float32) / 32768
  whole = read_track(film(tmp_path / "a.mkv", samples=samples), HZ)
  torn = read_track(film(tmp_path / "b.mkv", samples=samples, lost=range(5, 9)), HZ)
  assert whole is not None
  assert torn is not None
  expected = whole.samples.copy()
  expected[5 * 1024 : 9 * 1024] = 0
  np.testing.assert_array_equal(torn.samples, expected)


def test_speech_is_read_as_it_was_recorded(shared_data: pathlib.Path, tmp_path: pathlib.Path):
  """Spoken digits beside pictures: sample by sample those of the recording, from 0.2 s on; and some real videos."""
  for number, path in enumerate(sorted((shared_data / "fsdd" / "recordings").glob("*_0.wav"))[::20]):
    with wave.open(str(path)) as recording:
      spoken = np.frombuffer(recording.readframes(recording.getnframes()), np.int16)
    video = film(
      tmp_path / f"{number}.mov", ("pcm_s16le", 8000, "mono"), samples=spoken / np.float32(32768), sound_s=0.2
    )
    track = read_track(video, 8000)
    assert track is not None
    assert track.first == 1600
    np.testing.assert_array_equal(track.samples, spoken)
  for name, seconds in (("examples__flipping_a_pancake.mkv", 10.33), ("test__resources__nasa_13013.mp4", 13.0)):
    track = read_track(shared_data / "robustness" / name, HZ)
    assert track is not None
    assert len(track.samples) / HZ == pytest.approx(seconds, abs=0.1)
    part = read_track(shared_data / "robustness" / name, HZ, 5.0, 1.0)
    assert part is not None
    whole = track.samples[5 * HZ - track.first :][:HZ]
    assert np.abs(part.samples.astype(int) - whole).max() <= 3  # decoders are somewhere else in their state


def test_damaged_sound_is_refused(tmp_path: pathlib.Path):
  """Like damaged pictures."""
  path = film(tmp_path / "a.mkv", ("flac", 44100, "mono"), samples=noise(80000).astype(np.float32) / 32768)
  content = bytearray(path.read_bytes())
  with av.open(str(path)) as container:
    places = [packet.pos for packet in container.demux(audio=0) if packet.size]
  for place in places[4:8]:
    content[place + 6 : place + 40] = bytes(34)
  with pytest.raises(VideoError, match="damaged"):
    read_track(bytes(content), HZ)


def test_middles_by_hand():
  """Four frames 0.1 s apart from 1.0 s on show 1.0 to 1.4 s; repeats at an end count as if the video went on."""
  assert middle(np.array([1.0, 1.1, 1.2, 1.3]), 0.04) == pytest.approx(1.2)
  assert middle(np.array([0.0, 0.1, 0.2, 0.2, 0.2, 0.2]), 0.1) == pytest.approx(0.3)
  assert middle(np.array([0.0, 0.0, 0.0, 0.1, 0.2, 0.2]), 0.1) == pytest.approx(0.1)
  assert middle(np.array([0.5]), 0.04) == pytest.approx(0.52)
  assert middle(np.array([0.5, 0.5, 0.5]), 0.04) == pytest.approx(0.52)


SHORT = Clip(num_frames=8, sampling="rate", rate_hz=25, short="centre")


def test_the_sound_of_a_clip_by_hand():
  """Frames 0.5 to 0.82 s have samples 8000 to 13120; a reversed clip has them reversed."""
  track = Track(noise(2 * HZ), 0, HZ)
  content, audio = encode_track(track), Audio(rate_hz=HZ)
  times_s = 0.5 + np.arange(8) / 25
  assert num_samples(audio, SHORT) == 5120
  found = clip_sound(content, audio, SHORT, times_s, 0.04)
  np.testing.assert_array_equal(found["audio"] * 32768, track.samples[8000:13120].astype(float))
  assert found["audio_valid"].tolist() == [0, 5120]
  back = clip_sound(content, audio, SHORT, times_s[::-1], 0.04)
  np.testing.assert_array_equal(back["audio"], found["audio"][::-1])
  early = clip_sound(content, replace(audio, window_s=2.0), SHORT, times_s, 0.04)
  assert early["audio_valid"].tolist() == [round(0.34 * HZ), 2 * HZ]  # 0.66 s is the middle
  np.testing.assert_array_equal(early["audio"][5440:], track.samples[: 2 * HZ - 5440] / np.float32(32768))
  quiet = clip_sound(b"", replace(audio, missing="silence"), SHORT, times_s, 0.04)
  assert (quiet["audio"].any(), quiet["audio_valid"].tolist()) == (False, [0, 0])


UNEVEN_MS = np.cumsum(np.random.default_rng(0).choice([33, 40, 67], FRAMES)).tolist()
# Number of the bright frame, and how the film is made; sound begins later, pictures do, or the rate varies.
FILMS: dict[str, tuple[int, dict[str, Any]]] = {
  "a/0.mp4": (20, dict(sound=("aac", 44100, "stereo"), sound_s=0.25)),
  "a/1.mkv": (18, dict(sound=("libopus", 48000, "mono"), video_s=0.4)),
  "a/2.mp4": (22, dict(sound=("aac", 48000, "mono"), times_ms=UNEVEN_MS)),
  "b/0.mov": (17, dict(sound=("pcm_s16le", 22050, "mono"))),
  "b/1.webm": (23, dict(sound=("libopus", 48000, "stereo"), times_ms=UNEVEN_MS)),
  "b/2.mp4": (20, dict(sound=None)),
}
ROWS = [f"{name},{name[0]},{'test' if '2' in name else 'train'}" for name in FILMS]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """Six films, stored with sound of 24 kHz; one of the two test clips is silent."""
  root = tmp_path_factory.mktemp("heard")
  for name, (flash, how) in FILMS.items():
    film(root / name, flash=flash, **how)
  (root / "t.csv").write_text("\n".join(["path,label,split", *ROWS]))
  options = Options(root=str(root), csv="t.csv", audio="flac", audio_hz=24000)
  return prepare("video_folder", options, tmp_path_factory.mktemp("prepared"))


def test_clips_have_the_sound_of_their_frames(prepared: pathlib.Path):
  """In training and evaluation, at another rate than stored, the click lies where the bright frame begins.

  The window lies around the middle of what the frames show, also where their rate varies.
  """
  audio = Audio(rate_hz=HZ, window_s=0.64, missing="silence")
  heard = 0
  for source in (PreparedSource(prepared, "train"), PreparedSource(prepared, "test")):
    for index, seed in [(index, seed) for index in range(len(source)) for seed in (None, 0, 1, 2)]:
      rng = None if seed is None else np.random.default_rng(seed)
      found = load_clip(source, Clip(num_frames=12), Pixels(crop=48), index, rng, audio=audio)
      assert found["audio"].shape == (10240,)
      example = source[index]
      bright = np.flatnonzero(found["video"].mean((1, 2, 3)) > 128)
      if example["id"] == "b/2.mp4":
        assert found["audio_valid"].tolist() == [0, 0]
      elif len(bright):
        heard += 1
        starts_s = example.get("times_s", np.arange(FRAMES) / 25)
        flash, _ = FILMS[example["id"]]
        shown_s = starts_s[flash - bright[0] :][:12]
        begin_s = shown_s[0] + (shown_s[-1] - shown_s[0]) * 12 / 11 / 2 - 0.32
        assert click_s(found["audio"], HZ) == pytest.approx(starts_s[flash] - begin_s, abs=1e-3)
  assert heard >= 8


def test_batches_have_sound(prepared: pathlib.Path):
  """Training and evaluation give audio (B S) beside the video; padding and videos without sound are silent."""
  facts = read_facts(prepared)
  sounds = {split: about["sound"] for split, about in facts["splits"].items()}
  assert (sounds["train"]["clips"], sounds["test"]["clips"]) == (4, 1)
  assert (sounds["train"]["without"], sounds["test"]["without"]) == ([], ["b/2.mp4"])
  clip, pixels, audio = Clip(num_frames=8, sampling="rate", rate_hz=25), Pixels(crop=48), Audio(rate_hz=8000)
  batches = train_batches(PreparedSource(prepared, "train"), clip, pixels, Loader(batch_size=4), 0, audio=audio)
  batch = next(batches)
  assert (batch["audio"].shape, batch["audio"].dtype) == ((4, 2560), np.float32)
  assert batch["audio_valid"][:, 1].tolist() == [2560] * 4
  quiet = replace(audio, missing="silence")
  test = PreparedSource(prepared, "test")
  (last,) = eval_batches(test, clip, pixels, Loader(batch_size=3), audio=quiet)
  assert last["mask"].tolist() == [1, 1, 0]
  assert sorted((last["audio_valid"][:, 1] > 0).tolist()) == [False, False, True]
  with pytest.raises(UserError, match=r"b/2.mp4: it has no sound; set config.audio.missing = \"silence\""):
    list(eval_batches(test, clip, pixels, Loader(batch_size=3), audio=audio))
  check_stored(facts, clip, pixels, quiet)
  with pytest.raises(UserError, match=r"1 of 2 test videos have no sound \(first: b/2.mp4\); set config.audio.missing"):
    check_stored(facts, clip, pixels, audio)


def test_sound_that_was_not_stored(tiny_motion: pathlib.Path):
  """Asking for the sound of a dataset without is one line, before training and in it."""
  clip, audio = Clip(num_frames=4, sampling="rate", rate_hz=12), Audio(rate_hz=8000)
  with pytest.raises(
    UserError, match=r"rate_hz = 8000: the dataset was prepared without sound; set config.data.audio ="
  ):
    check_stored(read_facts(tiny_motion), clip, Pixels(crop=32), audio)
  with pytest.raises(UserError, match="prepared without sound"):
    load_clip(PreparedSource(tiny_motion, "train"), clip, Pixels(crop=32), 0, None, audio=audio)


def test_the_option_is_part_of_the_fingerprint(tmp_path: pathlib.Path):
  """With sound, or with other sound, it is another dataset; without, the rate says nothing."""
  for name in ("a/0.mp4", "a/1.mp4", "b/0.mp4", "b/1.mp4"):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
  plain, rate = Options(root=str(tmp_path)), Options(root=str(tmp_path), audio_hz=8000)
  heard = [replace(options, audio="flac") for options in (plain, rate)]
  assert fingerprint(plain) == fingerprint(rate)
  assert len({fingerprint(options) for options in (plain, *heard)}) == 3


CONFIGS: list[tuple[dict[str, Any], str]] = [
  (
    {"audio.rate_hz": 8000, "clip.stride_f": 2},
    r"config.audio.window_s = 0: the clips take frames that are not a fixed",
  ),
  ({"audio.rate_hz": 8000, "clip.short": "loop"}, r'config.clip.short = "loop": clips with sound cannot begin again'),
  (
    {"audio.window_s": 1.0},
    r"config.audio: rate_hz = 0: without sound in the batches, window_s and missing say nothing",
  ),
  ({"audio.rate": 8000}, r'config.audio.rate: unknown key; did you mean "rate_hz"\?'),
  ({"audio.missing": "noise"}, r"config.audio.missing = 'noise': must be one of 'error', 'silence'"),
  (
    {"audio.rate_hz": 8000, "audio.window_s": 1.0, "augment.mixup_alpha": 0.2},
    r"pictures are mixed, but not their sound",
  ),
]


@pytest.mark.parametrize(("changed", "message"), CONFIGS, ids=range(len(CONFIGS)))
def test_configs_that_cannot_be(changed: dict[str, Any], message: str):
  """Each is one line that names the key."""
  config = motion_frame_cnn.get_config().to_dict()
  for key, value in changed.items():
    section, name = key.split(".")
    config.setdefault(section, {})[name] = value
  with pytest.raises(UserError, match=message):
    assemble(config)


def test_a_config_with_sound():
  """The resolved config and the shapes of a batch have it."""
  config = motion_frame_cnn.get_config().to_dict() | {"audio": {"rate_hz": 16000, "window_s": 0.5}}
  experiment = assemble(config)
  size = experiment.loader.batch_size
  assert experiment.batch_shapes()["audio"].shape == (size, 8000)
  assert experiment.batch_shapes()["audio_valid"].shape == (size, 2)
  assert experiment.resolved()["audio"] == {"rate_hz": 16000, "window_s": 0.5, "missing": "error"}
