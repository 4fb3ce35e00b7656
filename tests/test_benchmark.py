"""The benchmark program: arithmetic by hand, cases that fit, records that last, and errors in one line."""

import json
import math
import pathlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from peers import peer
from programs import Ended, call

from experiments import benchmark
from experiments.benchmarks import machine, table
from experiments.benchmarks.ops import jax_conv, jax_ops, suite, torch_ops
from experiments.benchmarks.ops.case import OpCase, conv_case
from experiments.benchmarks.ops.conv_cases import transposed_case
from experiments.benchmarks.ops.jax_ops import JaxOp
from experiments.benchmarks.ops.pool_cases import pool_case
from experiments.benchmarks.ops.sequence_cases import attend_case, block_case, embed_case, predrnn_case, recurrent_case
from experiments.benchmarks.record import ratio, relative_error
from experiments.benchmarks.table import geometric_mean
from experiments.benchmarks.timing import Contender, Entrant, Options, Timing, enter, measure, read_leaves

TINY = conv_case("tiny", "convolution", x=(1, 4, 8, 8, 3), kernel=(3, 3, 3), features=16, strides=(1, 2, 2))
POINT = conv_case("point", "pointwise and temporal", x=(1, 2, 4, 4, 3), kernel=(1, 1, 1), features=2)

FRAMES = (2, 3, 4, 4, 2)
# One small case of every op.
SMALL = (
  TINY,
  conv_case("causal", "convolution", (1, 4, 4, 4, 2), (3, 1, 1), 2, None, ((4, 0), (0, 0), (0, 0)), (2, 1, 1)),
  conv_case("grouped", "depthwise and grouped", (2, 5, 5, 4), (3, 3), 8, groups=2),
  transposed_case("transposed", (1, 2, 3, 3, 4), (3, 4, 4), 2, (1, 2, 2), (1, 1, 1)),
  pool_case("max", "max_pool", (1, 4, 5, 5, 3), (3, 3, 3), (1, 2, 2), (1, 1, 1)),
  pool_case("average", "avg_pool", (1, 4, 4, 4, 3), (2, 2, 2)),
  recurrent_case("convlstm", "conv_lstm", FRAMES, 3, 4, (3, 3), hidden_kernel=(3, 3, 3, 12)),
  recurrent_case(
    "convgru", "conv_gru", FRAMES, 3, 3, (3, 3), hidden_kernel=(3, 3, 3, 6), candidate_kernel=(3, 3, 3, 3)
  ),
  recurrent_case("lstm", "lstm", (2, 3, 4), 3, 4, hidden_kernel=(3, 12)),
  recurrent_case("gru", "gru", (2, 3, 4), 3, 3, hidden_kernel=(3, 9), hidden_bias=(3,)),
  recurrent_case("rnn", "rnn", (2, 3, 4), 3, 1, hidden_kernel=(3, 3)),
  predrnn_case("predrnn", FRAMES, 3, 2, (3, 3)),
  attend_case("attention", (2, 5, 2, 4)),
  block_case("block", (2, 5, 8), 2),
  embed_case("patches", (1, 4, 4, 4, 3), (2, 2, 2), 5),
)


@pytest.fixture
def program(capsys, monkeypatch) -> partial[Ended]:
  """The program on two tiny cases, on a machine without torch, whose matmul peak is 1 TFLOP/s."""
  monkeypatch.setattr(suite, "CASES", (TINY, POINT))
  monkeypatch.setattr(benchmark, "matmul_peak", lambda dtype: 1e12)
  monkeypatch.setattr(torch_ops, "installed", lambda: False)
  quick = ("--seconds", "0.001")
  return partial(call, "benchmark", "ops", *quick, capsys=capsys, monkeypatch=monkeypatch)


class Bench:
  """A clock that stands still unless a contender works, and a log of who did."""

  def __init__(self) -> None:
    self.now_s, self.log = 0.0, ""

  def entrant(self, name: str, *durations_s: float) -> Entrant:
    """Takes the durations one after the other, and then the last one again and again."""
    left = list(durations_s)

    def start() -> None:
      self.log += name
      self.now_s += left.pop(0) if len(left) > 1 else left[0]

    return enter(lambda: Contender(start, lambda result: None, lambda result: []), lambda: self.now_s)


def test_timings_by_hand():
  """Median and quartiles interpolate; ratios say how many times faster we are; their mean is geometric."""
  timing = Timing((1.0, 4.0, 2.0, 3.0))
  assert timing.median_s == 2.5
  assert timing.spread_s == pytest.approx(3.25 - 1.75)
  assert ratio(3.0, 2.0) == 1.5
  assert ratio(None, 2.0) is None
  assert geometric_mean([4.0, 0.25, 8.0]) == pytest.approx(2.0)
  assert geometric_mean([]) is None


def test_contenders_take_turns_and_the_slow_are_timed_once():
  """First calls do not count, rounds start with another contender each, a second call of over ten seconds is all."""
  bench = Bench()
  entrants = {"a": bench.entrant("a", 1.5, 0.5), "b": bench.entrant("b", 0.25), "c": bench.entrant("c", 19.0, 12.0)}
  assert bench.log == "aabbcc"
  timings = measure(entrants, 1.5, lambda: bench.now_s)
  assert timings["a"].samples_s == (0.5, 0.5, 0.5)
  assert timings["b"].samples_s == (0.25,) * 6
  assert timings["c"].samples_s == (12.0,)
  assert bench.log == "aabbcc" + "ab" + "ba" + "ab" + "bbb"


def test_short_calls_are_timed_in_groups():
  """A call of 1 ms is timed ten at a time, after one that is not timed; its timing is that of one call."""
  bench = Bench()
  timings = measure({"a": bench.entrant("a", 0.001)}, 0.03, lambda: bench.now_s)
  assert timings["a"].median_s == pytest.approx(0.001)
  assert len(bench.log) == 2 + 3 * (1 + 10)


def test_errors_by_hand():
  """Differences are relative to the largest value; another shape or NaN is infinitely wrong."""
  right = [np.array([2.0, -4.0]), np.zeros(2)]
  assert relative_error([np.array([2.0, -3.0]), np.zeros(2)], right) == 0.25
  assert relative_error(right, right) == 0
  assert relative_error([np.zeros(3), np.zeros(2)], right) == math.inf
  assert relative_error([np.array([2.0, np.nan]), np.zeros(2)], right) == math.inf


def test_work_by_hand():
  """A convolution to 4 x 4 x 4 positions of 16 channels multiplies and adds 3 x 27 numbers for each."""
  assert TINY.flops == 2 * (4 * 4 * 4) * 16 * (3 * 27)
  grouped = conv_case("g", "depthwise and grouped", x=(2, 4, 4, 8), kernel=(3, 3), features=8, groups=8)
  assert grouped.flops == 2 * (2 * 4 * 4) * 8 * 9
  assert attend_case("a", (2, 5, 3, 4)).flops == 2 * 2 * (2 * 3) * 5 * 5 * 4
  assert recurrent_case("r", "lstm", (2, 3, 4), 5, 4, hidden_kernel=(5, 20)).flops == 2 * (2 * 3) * (4 + 5) * 20


def test_names_are_unique_and_every_op_is_known():
  """A record is found by name and kind, and each case has its forms."""
  names = [case.name for case in suite.CASES]
  assert len(set(names)) == len(names)
  assert {case.op for case in suite.CASES} == set(jax_ops.OPS)


@pytest.mark.parametrize("case", suite.CASES, ids=lambda case: case.name)
def test_ours_and_plain_have_the_same_shape(case: OpCase):
  """Every case fits its op, ours and plain; the amount of work is known."""
  op = jax_ops.OPS[case.op]
  assert suite.output_shape(case, op.ours) == suite.output_shape(case, op.plain)
  assert case.flops > 0


def test_records_and_table(program, tmp_path: pathlib.Path):
  """Each row leaves a record with times, ratios, work and machine, and a line in the table; torch's absence is said."""
  ended = program(f"--json={tmp_path / 'ops.json'}")
  assert ended.code == 0, ended.err
  records = json.loads((tmp_path / "ops.json").read_text())
  assert [(r["name"], r["pass"]) for r in records] == [
    (case, pass_) for case in ("tiny", "point") for pass_ in ("forward", "gradient")
  ]
  for record in records:
    assert record["ratio_baseline"] == pytest.approx(record["baseline"] / record["ours"], rel=1e-3)
    assert record["peer"] is None
    assert record["absent"] == {"torch": "torch is not installed"}
    assert record["errors"]["ours"] < 1e-4
    assert record["machine"]["versions"]["jax"] == jax.__version__
    assert record["machine"]["cores"] >= 1
  tiny = records[0]
  assert tiny["shapes"] == {"x": [1, 4, 8, 8, 3], "kernel": [3, 3, 3, 3, 16]}
  assert tiny["gflop_s"] == pytest.approx(TINY.flops / tiny["ours"] / 1e6, rel=0.01, abs=0.01)
  assert records[1]["shapes"] == tiny["shapes"]
  table = (tmp_path / "ops.md").read_text()
  assert "| tiny | gradient |" in table
  assert table.count("torch is not installed") == len(records)
  assert "torch/ours not measured" in ended.out


def test_rows_measured_again_replace_the_old_ones(program, tmp_path: pathlib.Path):
  """A second run on a part of the rows keeps the others."""
  path = tmp_path / "ops.json"
  program(f"--json={path}")
  before = json.loads(path.read_text())
  assert program(f"--json={path}", "--only=tiny, gradient").code == 0
  after = json.loads(path.read_text())
  assert [r["name"] for r in after] == ["tiny", "point", "point", "tiny"]
  assert after[:3] == [before[0], *before[2:]]


def test_an_interrupted_run_keeps_its_records(program, monkeypatch, tmp_path: pathlib.Path):
  """Whoever presses Ctrl-C in the third row keeps two."""
  measure_row, rows = benchmark.measure_row, []

  def interrupted(*arguments):
    rows.append(arguments)
    if len(rows) == 3:
      raise KeyboardInterrupt
    return measure_row(*arguments)

  monkeypatch.setattr(benchmark, "measure_row", interrupted)
  ended = program(f"--json={tmp_path / 'ops.json'}")
  assert ended.code == 130
  assert "2 of 4 rows" in ended.err
  assert len(json.loads((tmp_path / "ops.json").read_text())) == 2


def test_wrong_and_failing_ops_are_seen(program, monkeypatch, tmp_path: pathlib.Path):
  """An op that computes something else is named and ends the program with 1; one that fails holds up nobody."""
  plain = jax_conv.plain_conv

  def fails(**arguments):
    raise ValueError("no such thing\nsecond line")

  monkeypatch.setitem(jax_ops.OPS, "conv3d", JaxOp(lambda **k: 1.01 * plain(**k), plain))
  ended = program("--only=tiny, forward")
  assert ended.code == 1
  assert "DISAGREES: ours is off by 0.01 from xla" in ended.out
  ended = program("--only=tiny, forward", "--without=xla")
  assert ended.code == 0, "nobody is left to disagree with"
  monkeypatch.setitem(jax_ops.OPS, "conv3d", JaxOp(plain, fails))
  monkeypatch.setattr(suite, "output_shape", lambda case, function: (1, 4, 4, 4, 16))
  assert program("--only=tiny, forward", f"--json={tmp_path / 'ops.json'}").code == 0
  (record,) = json.loads((tmp_path / "ops.json").read_text())
  assert record["absent"]["xla"] == "failed: ValueError: no such thing"
  assert record["ours"] > 0


def test_lowerings_are_measured_beside_the_chosen_one(monkeypatch):
  """With --lowerings every other one that applies takes part; a much faster one is named."""
  op = JaxOp(
    ours=lambda lowering="plain", **arguments: jax_conv.plain_conv(**arguments),
    plain=jax_conv.plain_conv,
    lowerings=lambda case: ("plain", "fold"),
    choose=lambda case: "plain",
  )
  monkeypatch.setitem(jax_ops.OPS, "conv3d", op)
  assert set(suite.contenders(TINY, "forward", "float32", Options(lowerings=True))) == {
    "ours",
    "xla",
    "torch",
    "lowering fold",
  }
  assert set(suite.contenders(TINY, "forward", "float32", Options())) == {"ours", "xla", "torch"}
  record = {"ours": 3.0, "lowerings": {"plain": 3.0, "fold": 2.0}}
  assert table.better_lowering(record) == "(fold is 1.50x faster)"
  assert table.better_lowering(record | {"ours": 2.1}) == ""


def test_every_lowering_that_is_offered_computes_the_case():
  """Ours takes each name that `lowerings` gives, the chosen one is shown, and the shape stays."""
  for case in SMALL:
    op = jax_ops.OPS[case.op]
    right = suite.output_shape(case, op.plain)
    names = op.lowerings(case)
    assert names or case.kind in ("recurrence", "transformer")
    for name in names:
      assert suite.output_shape(case, partial(op.ours, lowering=name)) == right
    assert not names or op.choose(case)


def test_summary_by_hand():
  """Means per kind and in all, then who is behind, worst first."""
  base = {
    "peer_name": "torch",
    "pass": "forward",
    "dtype": "float32",
    "agrees": True,
    "baseline_name": "xla",
    "ratio_baseline": 1.0,
    "others_frac": 0.02,
  }
  records = [
    base | {"name": n, "kind": k, "ratio": r} for n, k, r in (("a", "x", 4.0), ("b", "y", 0.5), ("c", "y", 0.25))
  ]
  lines = table.summary(records)
  assert lines[0] == "x: forward torch/ours 4.00x (1 of 1 ahead), forward xla/ours 1.00x (1 of 1 ahead)"
  assert lines[1].startswith("y: forward torch/ours 0.35x (0 of 2 ahead)")
  assert lines[2].startswith("all: forward torch/ours 0.79x (1 of 3 ahead)")
  assert lines[3:] == ["behind torch: c, forward float32, 0.25x", "behind torch: b, forward float32, 0.50x"]


def test_a_table_has_no_empty_columns():
  """Without a baseline there are no columns for one, and a baseline that is the peer is not shown twice."""
  ours, theirs = {"ours": 2.0, "spread": {"ours": 0.0, "torch": 0.0}}, {"peer_name": "torch", "peer": 4.0, "ratio": 2.0}
  rest = {"name": "a", "pass": "train", "dtype": "float32", "benchmark": "ops", "gflop_s": None, "share_of_peak": None}
  end = {"lowering": "", "lowerings": {}, "others_frac": 0.0, "agrees": True, "absent": {}}
  record = ours | theirs | rest | end
  without = record | {"baseline_name": "xla", "baseline": None, "ratio_baseline": None}
  same = record | {"baseline_name": "torch", "baseline": 4.0, "ratio_baseline": 2.0}
  for chosen in (without, same):
    heads, rows = table.tabulate([chosen])
    assert heads == ["name", "pass", "ours ms", "torch ms", "torch/ours"]
    assert rows == [["a", "train", "2 ±0", "4 ±0", "2.00x"]]
  other = without | {"peer_name": "decord", "spread": {"ours": 0.0, "decord": 0.0}}
  heads, rows = table.tabulate([without, other])
  assert heads[3] == "peer ms"
  assert [row[3] for row in rows] == ["torch 4 ±0", "decord 4 ±0"]


def test_a_busy_machine_is_said(monkeypatch):
  """Processor time that is not ours counts as that of others; a row that shared the machine is marked."""
  readings = iter([(0.0, 10.0, 4.0), (2.0, 13.0, 6.0)])  # in 2 s: 3 s busy on all cores, 2 s of them ours
  monkeypatch.setattr(machine, "_busy_s", lambda: next(readings))
  monkeypatch.setattr(machine, "cores", lambda: 2)
  assert machine.Others().share() == 0.25
  assert table.disturbance({"others_frac": 0.25}) == "(DISTURBED: others took 25% of the processor)"
  assert table.disturbance({"others_frac": 0.02}) == ""
  assert table.disturbance({"others_frac": None}) == ""


def test_list_measures_nothing(program, monkeypatch):
  """--list shows the rows with their shapes."""
  monkeypatch.setattr(benchmark, "measure_row", None)
  ended = program("--list", "--dtype=float32,bfloat16")
  assert ended.code == 0
  assert len(ended.out.splitlines()) == 8
  assert "convolution: tiny, gradient bfloat16   x 1x4x8x8x3, kernel 3x3x3x3x16" in ended.out


@pytest.mark.parametrize(
  ("argument", "said"),
  [
    ("--only=nothing like it", "matches none of the 4 rows"),
    ("--only=(", "is no regular expression"),
    ("--dtype=float16", "float16 is none of float32, bfloat16"),
    ("--seconds=0", "must be above 0"),
    ("--without=ours", "ours is none of xla, torch"),
    ("--json=/no/such/folder/ops.json", "cannot be written"),
    ("--json=taken.json", "is no benchmark record"),
    ("--json=list.json", "is no benchmark record"),
    ("--json=notes.json", "notes.md exists and is no benchmark table"),
    ("--json=ops.md", "name the records differently"),
  ],
)
def test_bad_input_is_one_line(argument: str, said: str, program, monkeypatch, tmp_path: pathlib.Path):
  """What cannot be used ends with code 2 and one line before anything is measured; no file is touched."""
  monkeypatch.chdir(tmp_path)
  files = {"taken.json": '{"step": 3}', "list.json": "[1, 2]", "notes.md": "my notes"}
  for name, text in files.items():
    pathlib.Path(name).write_text(text)
  monkeypatch.setattr(benchmark, "measure_row", None)
  ended = program(argument)
  assert ended.code == 2
  assert len(ended.err.splitlines()) == 1
  assert said in ended.err
  assert {name: pathlib.Path(name).read_text() for name in files} == files
  assert len(list(tmp_path.iterdir())) == len(files)


def test_unknown_suite(capsys, monkeypatch):
  """The nearest suite is named."""
  ended = call("benchmark", "op", capsys=capsys, monkeypatch=monkeypatch)
  assert ended.code == 2
  assert 'did you mean "ops"' in ended.err


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_torch_does_the_same_work(case: OpCase):
  """torch's output and gradients, brought into our layout, are those of plain XLA, in both memory formats."""
  peer("torch")
  inputs = suite.numbers(case)
  plain = partial(jax_ops.OPS[case.op].plain, **case.arguments)
  output, pull = jax.vjp(lambda inputs: plain(**inputs), {n: jnp.asarray(a) for n, a in inputs.items()})
  cotangent = suite.draw(output.shape, 1.0, 9)
  right = read_leaves((output, pull(jnp.asarray(cotangent))))
  for memory_format in ("contiguous", "channels_last"):
    found = torch_ops.in_format(memory_format, "cpu", case, "gradient", "float32", inputs, cotangent, False)
    assert relative_error(found.read(found.start()), right) < 1e-5


def test_bfloat16_rows_are_computed_in_bfloat16():
  """The dtype of a row is that of inputs, result and gradients."""
  found = suite.contenders(POINT, "gradient", "bfloat16", Options())
  result = found["ours"]().start()
  assert {leaf.dtype for leaf in jax.tree.leaves(result)} == {jnp.dtype("bfloat16")}
