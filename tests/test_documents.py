"""The documents: their commands run, their counts are those of the code, their links resolve."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import soprano
from conformance.contract.reader import requirements
from conformance.faults import catalogue
from conformance.golden.packs import fixture_models

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("README.md", "CONTRIBUTING.md", "docs/*.md", "conformance/contract/*.md",
                    "fixtures/**/README.md", "soprano/models/nano/README.md")
    for path in ROOT.glob(pattern)
)  # fmt: skip
FOLDERS = sorted(path.name for path in ROOT.iterdir() if path.is_dir())
WORDS = {"two": 2, "three": 3, "four": 4, "five": 5}
BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+) -->\n)?"
    r"(?:^<!-- exit status: (?P<status>\d) -->\n)?"
    r"^```(?P<language>python|console|toml)\n(?P<text>.*?)^```$",
    re.M | re.S,
)


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    reason: str | None  # why it is not run
    status: int  # expected of its last command

    def commands(self):
        """Each command of a console block with the lines that it prints."""
        for part in re.split(r"^\$ ", self.text, flags=re.M)[1:]:
            command, *printed = part.splitlines()
            yield command, [line for line in printed if line and line != "..."]


def text_of(document):
    return (ROOT / document).read_text(encoding="utf-8")


def blocks_of(document):
    return [
        Block(found["language"], found["text"], found["reason"], int(found["status"] or 0))
        for found in BLOCK.finditer(text_of(document))
    ]


def run(folder, *command):
    """A command in a folder, with the package under test and the scripts installed with it."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CONFORMANCE_")}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(soprano.__file__).parents[1]), "."])
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)


def masked(line):
    """A line without its numbers, which differ from one machine to another."""
    return " ".join(re.sub(r"-?\d[\d,.]*(e[+-]?\d+)?", "#", line).split())


def assert_printed(command, lines, output):
    """The lines of a document appear in the output, in their order, except for numbers."""
    printed = iter([masked(line) for line in output.splitlines()])
    for line in lines:
        assert masked(line) in printed, f"{command} does not print {line!r}:\n{output}"


WITH_BLOCKS = [d for d in DOCUMENTS if any(block.reason is None for block in blocks_of(d))]


@pytest.mark.parametrize("document", WITH_BLOCKS)
def test_the_code_blocks_run(document, tmp_path):
    """In the order of the document; a block that begins with a comment `# name.py` is a file."""
    for number, block in enumerate(blocks_of(document)):
        if block.reason is not None:
            continue
        if block.language == "console":
            for command, lines in block.commands():
                result = run(tmp_path, "bash", "-c", command)
                output = result.stdout + result.stderr
                assert result.returncode == block.status, f"{command}\n{output}"
                assert_printed(command, lines, output)
            continue
        named = re.match(r"# ([\w-]+\.(?:py|toml))\n", block.text)
        path = tmp_path / (named[1] if named else f"block_{number}.py")
        path.write_text(block.text, encoding="utf-8")
        if block.language == "python":
            result = run(tmp_path, sys.executable, str(path))
            assert result.returncode == 0, f"{path.name}\n{result.stderr}"


# Blocks that need the network, other programs, or more than seconds.
NOT_RUN = {
    "CONTRIBUTING.md": [
        "pytest --backend onnx_cpu --model v11 --only-model conformance/laws/test_decoder.py",
    ],
    "README.md": [
        "python -m pip install tox && tox -e onnx,openvino",
        "pip install 'soprano-conformance[onnx,conformance]'",
    ],
    "docs/architecture.md": ["pytest --benchmark-autosave"],
    "docs/diagnosis.md": [
        "python -m conformance run --python old/bin/python --backend onnx_cpu"
        " --report-dir old-report"
    ],
    "docs/faults.md": ["python -m conformance faults --only sampler --backend openvino_cpu"],
    "docs/measurements.md": [
        "python -m conformance run --backend onnx_cpu",
        "tox -e agreement",
        "tox -e speed",
        "soprano bench -m CHECKPOINT --threads 1",
        "python -m comparisons.speed.protocol bundle",
        "/usr/bin/time -v soprano say -f FILE --threads 1 -b BACKEND -o out.wav",
        "GLIBC_TUNABLES=glibc.malloc.hugetlb=1 soprano bench -m CHECKPOINT -b onnx_cpu --threads 1",
        "python -m conformance.speed.gate_power --checkout . --part istft",
        "python -m fixtures.train --out DIR --only-judge",
    ],
    "docs/porting.md": [
        "python -m conformance export --to onnx --layout community --model v11 -o community",
        "python -m conformance run --backend my_port:MyPort --model v11 --requirement TX"
        " --text soprano-tts-0.2.0",
    ],
    "fixtures/README.md": ["python fixtures/build.py"],
    "fixtures/train/README.md": ["python -m fixtures.train --out DIR"],
}


def test_the_blocks_that_are_not_run_are_known():
    found = {
        document: [next(block.commands())[0] for block in blocks_of(document) if block.reason]
        for document in DOCUMENTS
    }
    assert {document: first for document, first in found.items() if first} == NOT_RUN


def counts():
    """What the documents count, from its source."""
    scopes = [requirement.scope for requirement in requirements().values()]
    harmless = [fault.harmless for fault in catalogue().values()]
    return {
        "requirements for ports": scopes.count("port"),
        "requirements for this package": scopes.count("package"),
        "planted faults": harmless.count(False),
        "harmless variations": harmless.count(True),
        "fixture models": len(fixture_models()),
        "micro models": len(fixture_models()) - 1,
    }


def test_counts_are_those_of_the_code():
    sources, seen = counts(), set()
    pattern = rf"\b(\d+|{'|'.join(WORDS)}) ({'|'.join(sources)})\b"
    for document in DOCUMENTS:
        for number, noun in re.findall(pattern, text_of(document)):
            assert WORDS.get(number) or int(number) == sources[noun], f"{document}: {noun}"
            seen.add(noun)
    assert seen == set(sources)


def test_the_kill_matrix_has_faults_of_the_catalogue():
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$",
                      text_of("docs/faults.md"), re.M)  # fmt: skip
    assert len(rows) == 3
    for backend, planted, caught, harmless, alarms in rows:
        own = [f for f in catalogue().values() if not f.backends or backend in f.backends]
        assert int(harmless) <= sum(fault.harmless for fault in own), backend
        assert int(planted) == int(caught) <= sum(not fault.harmless for fault in own), backend
        assert alarms == "0"


def test_the_word_error_rates_are_those_of_the_evaluation():
    evaluation = json.loads((ROOT / "soprano/models/nano/evaluation.json").read_text("utf-8"))
    rates = evaluation["word_error_rate_percent"]
    for document in ("docs/measurements.md", "soprano/models/nano/README.md"):
        for kind, rate in rates["voice"].items():
            row = rf"^\| {kind} \| {rate}(?: %)? \| {rates['teacher'][kind]}(?: %)? \|$"
            assert re.search(row, text_of(document), re.M), f"{document}: {kind}"
    for speaker in rates.values():
        assert f"{speaker['all']:.1f} %" in text_of("README.md")


def test_the_speed_table_is_part_of_the_measurements():
    rows = [line for line in text_of("README.md").splitlines() if " rounds) |" in line]
    assert len(rows) == 4
    measured = text_of("docs/measurements.md").splitlines()
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert any(all(f"| {cell} |" in line for cell in cells) for line in measured), row


def test_the_readme_is_short():
    assert len(text_of("README.md").split()) <= 1000


def anchors(path):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", [*DOCUMENTS, "CHANGELOG.md"])
def test_links_resolve(document):
    for link in re.findall(r"\]\(([^)]+)\)", text_of(document)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / document).parent / path if path else ROOT / document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("document", DOCUMENTS)
def test_paths_and_modules_exist(document):
    code = re.sub(r"^```.*?^```$", "", text_of(document), flags=re.M | re.S)
    for name in re.findall(r"`([\w./*-]+?)/?`", code):
        if name.split("/")[0] in FOLDERS and "/" in name:
            path = name.replace("conformance/data", "fixtures")  # as the wheel contains it
            assert list(ROOT.glob(path)), name
        elif re.fullmatch(r"(soprano|conformance)(\.\w+)+", name) and Path(name).suffix != ".json":
            assert resolves(name), name


def resolves(name):
    """Whether a dotted name is a module or an attribute of one."""
    parent, _, last = name.rpartition(".")
    try:
        importlib.import_module(name)
    except ImportError:
        return hasattr(importlib.import_module(parent), last)
    return True


def test_the_example_runs(tmp_path):
    result = run(tmp_path, sys.executable, str(ROOT / "examples/speak.py"), "Hello.", "out.wav")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out.wav").stat().st_size > 44


@pytest.mark.parametrize(
    ("statement", "times"),
    [("import soprano", 2), ("import soprano; soprano.normalize('42nd')", 3)],
)
def test_little_is_imported_for_a_first_text(tmp_path, statement, times):
    """Interleaved with NumPy's import, so that a noisy machine slows both; the best of each."""
    code = "import time; s = time.perf_counter(); {}; print(time.perf_counter() - s)"
    seconds: dict[str, list[float]] = {"import numpy": [], statement: []}
    for _ in range(15):
        for each, found in seconds.items():
            found.append(float(run(tmp_path, sys.executable, "-c", code.format(each)).stdout))
    assert min(seconds[statement]) <= times * min(seconds["import numpy"])
