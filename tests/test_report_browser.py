"""REPORT in a real headless Chromium, as wide as a desk and as a phone.

Skips where none is installed; with VU_JAX_BROWSER=required that is a failure.
"""

import os
import pathlib
from collections.abc import Iterator

import pytest
from browser import Browser, browser, find_browser
from PIL import Image
from report_records import made_ablation, made_run, made_sweep
from test_report import finished_run

from vu_jax.report import compare_page
from vu_jax.report.ablation_page import write_ablation_page
from vu_jax.report.html import write_page
from vu_jax.report.page import write_report
from vu_jax.report.records import load_run
from vu_jax.report.sweep_page import write_sweep_page

SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
PAGES = ("run", "sweep", "names", "ablation", "variants", "compare")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pathlib.Path]:
  """Every kind of page, plain and with names that try to break it."""
  folder = tmp_path_factory.mktemp("pages")
  runs = [made_run(folder / f"run{seed}", seed=seed) for seed in (0, 1)]
  runs.append(made_run(folder / "other", model="cnn_rnn", lr=1e-2))
  return {
    "run": write_report(finished_run(folder / "run")),
    "sweep": write_sweep_page(made_sweep(folder / "sweep")),
    "names": write_sweep_page(made_sweep(folder / "names", nasty=True)),
    "ablation": write_ablation_page(made_ablation(folder / "ablation")),
    "variants": write_ablation_page(made_ablation(folder / "variants", nasty=True)),
    "compare": write_page(folder / "compare.html", compare_page.render([load_run(run) for run in runs])),
  }


@pytest.fixture(scope="module")
def tab() -> Iterator[Browser]:
  """One Chromium for all tests of this file."""
  if not find_browser():
    (pytest.fail if os.environ.get("VU_JAX_BROWSER") == "required" else pytest.skip)("needs Debian's chromium")
  with browser() as found:
    yield found


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole_quiet_and_as_wide_as_the_window(
  name: str, size: str, pages: dict[str, pathlib.Path], tab: Browser, tmp_path: pathlib.Path
):
  """No error in the console, nothing asked of the outside, no element wider than the page, and something is drawn."""
  width, height = SIZES[size]
  seen = tab.open(pages[name], width, height)
  assert seen.errors == []
  assert seen.requests == []
  assert seen.too_wide == []
  picture = tmp_path / f"{name}_{size}.png"
  tab.screenshot(picture, width, height)
  with Image.open(picture) as image:
    assert image.size == (width, height)
    assert len(image.getcolors(maxcolors=1 << 20) or []) > 20


def test_the_checks_can_fail(tab: Browser, tmp_path: pathlib.Path):
  """A page with a script that throws, an address outside, and a box wider than the window is found out."""
  bad = tmp_path / "bad.html"
  bad.write_text("<img src='http://localhost:9/x.png'><div style='width:2000px'>x</div><script>nowhere()</script>")
  seen = tab.open(bad, 390, 844)
  assert any("nowhere" in error for error in seen.errors)
  assert seen.requests == ["http://localhost:9/x.png"]
  assert "DIV." in seen.too_wide


def test_dark_pages_are_dark(pages: dict[str, pathlib.Path], tab: Browser):
  background = "getComputedStyle(document.body).backgroundColor"
  tab.open(pages["sweep"], 1280, 900, dark=True)
  assert tab.evaluate(background) == "rgb(18, 19, 21)"
  tab.open(pages["sweep"], 1280, 900)
  assert tab.evaluate(background) == "rgb(248, 247, 244)"


def test_pointing_at_a_line_singles_out_its_trial(pages: dict[str, pathlib.Path], tab: Browser):
  """The line, its dot, its curve and its row are marked, and its parameters are written out; clicking keeps it."""
  tab.open(pages["sweep"], 1280, 900)
  tab.evaluate(
    "document.querySelector('#parallel-trial-14 .reach').dispatchEvent(new Event('pointerover', {bubbles: true}))"
  )
  marked = "[...document.querySelectorAll('.on')].map(e => e.id).sort().join(' ')"
  assert tab.evaluate(marked) == "about-trial-14 curves-trial-14 history-trial-14 parallel-trial-14"
  assert "optim.lr_peak 0.004747" in tab.evaluate("document.getElementById('reading').textContent")
  tab.evaluate("document.querySelector('#about-trial-19 td').click()")
  tab.evaluate("document.body.dispatchEvent(new Event('pointerover', {bubbles: true}))")
  assert "history-trial-19" in tab.evaluate(marked)
