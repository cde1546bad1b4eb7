"""The HTML report in a browser: it opens, sorts, filters and plays, without network access."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser

import pytest
from click.testing import CliRunner

from conformance.golden.packs import fixture_models
from conformance.meta.report import browser
from conformance.meta.report.example_runs import HOSTILE, evidence
from conformance.report.commands import report
from conformance.report.json_document import document
from soprano.checkpoint.folder import ModelFolder

pytest.importorskip("matplotlib")

DECODER = ModelFolder.open(fixture_models()[0]).config.decoder
BENCHMARK = {
    "commit_info": {"id": "0123456789abcdef"},
    "benchmarks": [
        {
            "name": f"bench_part[{backend}-v11-{part}]",
            "group": f"{part}[v11]",
            "stats": {
                "min": 0.08 * size,
                "median": 0.1 * size,
                "q1": 0.09 * size,
                "q3": 0.12 * size,
                "rounds": 20,
            },
            "extra_info": {"backend": backend, "rtf": 0.1 * size, "audio_seconds": 1.0},
        }
        for backend in ("port:Port", "other:Port")
        for part, size in (("decode", 0.2), ("step", 1.0))
    ],
}
FAULT = {
    "id": "sampler/top_p", "backend": "onnx_cpu", "verdict": "caught", "blamed": "SA",
    "requirements": ["SA-03"], "story": "the nucleus is one id smaller",
}  # fmt: skip
NETWORK = {
    "network": "decoder",
    "first": "layer 2",
    "trace": [],
    "rows": [{"node": f"layer {number}", "ratio": 1.2 + 80 * (number > 1)} for number in range(40)],
}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A report of two runs, of which one fails, with benchmarks, faults and a bisection."""
    folder = tmp_path_factory.mktemp("report")
    right = document(evidence("port:Port", DECODER))
    right["levels"]["port:Port"].update(level="L2", reason="not offered: streaming")
    contents = {
        "right.json": right,
        "wrong.json": document(evidence("other:Port", DECODER, 1.01)),
        "bench.json": BENCHMARK,
        "faults.json": {"totals": {}, "results": [FAULT, {**FAULT, "verdict": "missed"}]},
        "bisection.json": {"networks": [NETWORK]},
    }
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    target = folder / "report.html"
    arguments = [str(folder / name) for name in contents] + ["-o", str(target)]
    result = CliRunner().invoke(report, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return target


@pytest.fixture(scope="module")
def page(file, tmp_path_factory):
    if browser.installed() is None:
        pytest.skip(f"not run: no browser is installed ({', '.join(browser.PROGRAMS)})")
    with browser.open_browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def visible(page, table):
    """The heads of the rows of a table that are shown."""
    rows = f"[...document.querySelectorAll('#{table} tbody tr')].filter((row) => !row.hidden)"
    return page.value(f"{rows}.map((row) => row.cells[0].textContent)")


def type_filter(page, table, words):
    controls = f"[data-filters={table}]"
    page.value(f"document.querySelector('{controls} input').value = ''")
    page.click(f"{controls} input")
    page.call("Input.insertText", text=words)


class References(HTMLParser):
    """The addresses that a page may load."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        named = [value for name, value in attrs if name in ("src", "href", "xlink:href", "data")]
        self.found += [value for value in named if tag != "a" and value]


def test_the_file_refers_to_nothing_outside_of_it(file):
    text = file.read_text("utf-8")
    references = References()
    references.feed(text)
    assert references.found
    assert all(re.match(r"data:|#", each) for each in references.found)
    assert not re.search(r"url\((?!#|data:)|@import|<link|<iframe", text)
    assert file.stat().st_size < 2_000_000


def test_every_part_is_there(file):
    text = file.read_text("utf-8")
    for title in ("requirements", "failures", "errors", "audio", "speed", "deviations",
                  "configurations", "kill-matrix"):  # fmt: skip
        assert f'<h2 id="{title}">' in text
    assert "Error by depth" in text
    assert "The first wrong node is layer 2." in text
    assert "Level <b>L2</b>: all stages. Not the next level: not offered: streaming." in text
    assert "No level: not every requirement was selected." in text
    assert "QQ plot" in text
    assert "the nucleus is one id smaller" in text
    assert "2999-01-01" in text
    assert text.count("<audio") == 6
    assert "<img" not in text
    assert len(set(re.findall(r' id="([^"]+)"', text))) == text.count(' id="')


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_its_window_and_requests_nothing(page, file, width):
    page.requested.clear()
    page.open(file, width)
    assert page.value("document.documentElement.scrollWidth") <= width
    assert page.value("innerWidth") == width
    own = file.absolute().as_uri()[:80]
    assert [each for each in page.requested if not each.startswith(("data:", own))] == []
    assert page.errors == []


def test_a_failing_cell_opens_its_evidence_and_command(page, file):
    page.open(file, 1280)
    page.click("#matrix .cell.fail")
    assert page.value("document.getElementById('detail').open")
    shown = page.value("document.getElementById('detail').innerText")
    assert shown.startswith("SY-01 on other:Port")
    assert "the level is 1.01 times the expected one" in shown
    assert HOSTILE in shown
    assert "python -m pytest --pyargs 'conformance.laws.test_x::test_3'" in shown
    page.press("Escape")
    page.wait("!document.getElementById('detail').open")
    assert page.errors == []


def test_words_and_choices_filter_rows(page, file):
    page.open(file, 1280)
    assert visible(page, "matrix") == ["TX-15", "LM-01", "LM-02", "SY-01"]
    type_filter(page, "matrix", "lm- logits")
    assert visible(page, "matrix") == ["LM-01", "LM-02"]
    type_filter(page, "matrix", "")
    choose = "const s = document.querySelector('[data-filters=matrix] select[name=verdict]'); "
    choose += "s.value = 'fail'; s.dispatchEvent(new Event('input', {bubbles: true}))"
    page.value(f"{{ {choose} }}")
    assert visible(page, "matrix") == ["SY-01"]
    assert page.value("document.querySelector('[data-filters=matrix] output').value") == "1 of 4"


def test_heads_sort_rows(page, file):
    page.open(file, 1280)
    page.click("#matrix thead th:first-child button")
    assert visible(page, "matrix") == ["LM-01", "LM-02", "SY-01", "TX-15"]
    page.click("#matrix thead th:first-child button")
    assert visible(page, "matrix") == ["TX-15", "SY-01", "LM-02", "LM-01"]
    page.click("#matrix thead th:nth-child(3) button")  # by verdict, from worst to best
    assert visible(page, "matrix")[0] == "SY-01"


def test_the_keyboard_reaches_filter_cells_and_evidence(page, file):
    page.open(file, 1280)
    page.press("/", "/")
    assert page.value("document.activeElement.type") == "search"
    page.value("document.querySelector('#matrix .cell').focus()")
    page.press("ArrowDown")
    page.press("ArrowRight")
    assert page.value("document.activeElement.dataset.cell") == "LM-01|1"
    page.press("Enter", "\r")
    assert page.value("document.getElementById('detail').open")


def test_audio_plays_one_player_at_a_time_and_moves_the_cursor(page, file):
    page.open(file, 1280)
    page.value("window.players = [...document.querySelector('.example').querySelectorAll('audio')]")
    page.wait("players.every((player) => player.duration > 0.4)")
    page.value("players[0].scrollIntoView()")
    page.click(".example .switch")
    page.wait("players.some((player) => player.currentTime > 0.05)")
    assert page.value("players.filter((player) => !player.paused).length") <= 1
    assert page.value("parseFloat(document.querySelector('.cursor').style.left)") > 10
    assert page.errors == []


def test_dark_mode_follows_the_button(page, file):
    page.open(file, 1280)
    colour = "getComputedStyle(document.body).backgroundColor"
    before = page.value(colour)
    page.click("#theme")
    assert page.value(colour) != before
    axis = "getComputedStyle(document.querySelector('figure svg text')).fill"
    assert page.value(axis) == page.value("getComputedStyle(document.body).color")


def test_a_link_to_a_cell_opens_it_and_print_shows_every_failure(page, file):
    page.open(file, 1280)
    page.value("location.hash = '#cell=SY-01|0'; location.reload()")
    page.wait("document.readyState === 'complete' && document.getElementById('detail').open")
    page.call("Emulation.setEmulatedMedia", media="print")
    assert page.value("getComputedStyle(document.querySelector('nav')).display") == "none"
    printed = page.value("document.querySelector('details[open] pre.command').innerText")
    assert printed.startswith("python -m pytest")
    page.call("Emulation.setEmulatedMedia", media="")


def test_a_missing_browser_is_reported(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert browser.installed() is None
