"""`check`: correct ports pass in time, and a wrong convention is named in the first line."""

from __future__ import annotations

import itertools
import json
import time

import numpy as np
import pytest
from click.testing import CliRunner

from conformance.diagnosis.check import check, replaced
from conformance.diagnosis.commands import check as command
from conformance.diagnosis.commands import replace as replace_command
from conformance.diagnosis.subjects import UnknownSubjectError, Vectors, resolve
from conformance.faults.plant import Wrapper, with_backend, with_stages
from conformance.golden.packs import fixture_models
from conformance.meta.diagnosis.conventions import conventions, is_named
from conformance.oracle.istft_conventions import ISTFTS
from conformance.oracle.sampler_conventions import SAMPLERS
from conformance.subject import Subject
from conformance.vectors.packs import export
from soprano.export.bundle import export_bundle

MODELS = {path.name: path for path in fixture_models()}
SAMPLE = 20  # every so many conventions are tried here; all of them by `tox -e deep`
PORTS = ("OwnStages", "AudioDecoder", "Greedy", "ShortContext")


@pytest.mark.parametrize("port", ["onnx_cpu", *PORTS])
def test_a_correct_backend_passes_in_less_than_20_seconds(port):
    name = port if port == "onnx_cpu" else f"conformance.meta.example_ports:{port}"
    start = time.process_time()
    answer = check(Subject(), name, [MODELS["v11"]])
    assert answer.status == 0, answer.lines()
    assert answer.first_line().startswith("all "), answer.lines()
    assert time.process_time() - start < 20


@pytest.mark.parametrize("convention", list(conventions())[::SAMPLE], ids=lambda c: c.name)
def test_a_wrong_convention_is_named_in_the_first_line(convention):
    answer = check(convention.subject, "onnx_cpu", [MODELS[convention.model]], replace=False)
    assert is_named(convention, answer), answer.lines()


def test_json_states_what_the_screen_shows():
    port = "conformance.meta.example_ports:SymmetricWindow"
    result = CliRunner().invoke(command, [port, "--model", "v11", "--json"])
    document = json.loads(result.stdout)
    assert result.exit_code == 1
    assert document["failure"]["stage"] == "ISTFT"
    assert document["failure"]["convention"] == "a symmetric window"
    assert "2 frames" in document["failure"]["input"]
    assert "run --backend" in document["failure"]["repeat"]
    assert any(line.endswith("audio: ISTFT") for line in document["contributions"])
    assert not document["passed"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return export_bundle(MODELS["v11"], tmp_path_factory.mktemp("bundle") / "v11", to="onnx")


@pytest.mark.parametrize(
    ("file", "rows"),
    [("lm_step", {"language model: prefill", "language model: step"}), ("decoder", {"decoder"})],
)
def test_an_onnx_file_is_judged_by_itself(bundle, file, rows):
    result = CliRunner().invoke(command, [str(bundle / "onnx" / f"{file}.onnx"), "--json"])
    document = json.loads(result.stdout)
    assert result.exit_code == 0, document
    judged = {row["stage"] for row in document["rows"] if row["compared"]}
    assert rows <= judged
    assert not judged & ({"decoder"} if file == "lm_step" else {"language model: prefill"})


def test_a_folder_of_outputs_is_judged(tmp_path):
    export(MODELS["v11"], tmp_path / "pack")
    outputs = tmp_path / "outputs"
    for case in ("tokenize", "sample"):
        (outputs / case).mkdir(parents=True)
        text = (tmp_path / "pack" / case / "expected.json").read_text()
        (outputs / case / "outputs.json").write_text(text)
    assert CliRunner().invoke(command, [str(outputs)]).exit_code == 0
    wrong = json.loads((outputs / "sample/outputs.json").read_text())
    wrong["ids"][0] += 1
    (outputs / "sample/outputs.json").write_text(json.dumps(wrong))
    result = CliRunner().invoke(command, [str(outputs)])
    assert result.exit_code == 1
    assert result.stdout.startswith("sampler: "), result.stdout


def test_names_of_subjects_are_resolved(bundle, tmp_path):
    assert resolve("onnx_cpu", []).backends == ["onnx_cpu"]
    assert resolve(str(bundle), []).backends == ["onnx_cpu"]
    assert resolve("exec:program", ["v10"]).models == [MODELS["v10"]]
    (tmp_path / "decode" / "outputs").mkdir(parents=True)
    assert isinstance(resolve(str(tmp_path), []), Vectors)
    with pytest.raises(UnknownSubjectError, match="no backend"):
        resolve("nonsense", [])


def test_nothing_that_can_be_judged_is_not_a_pass():
    result = CliRunner().invoke(command, ["nonsense"])
    assert result.exit_code == 2
    assert "no backend" in result.stderr


def test_a_port_that_does_not_open_gets_one_sentence():
    result = CliRunner().invoke(command, ["conformance.meta.example_ports:unable"])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "cannot open v11: " in result.stderr
    assert "no such accelerator" in result.stderr


def test_stage_replacement_is_a_command():
    arguments = ["--backend", "onnx_cpu", "--json"]
    result = CliRunner().invoke(replace_command, arguments)
    document = json.loads(result.stdout)
    assert result.exit_code == 0
    assert document["named"] == []
    assert 0 < document["error"] < 1e-5


class Louder(Wrapper):
    """A decoder whose spectra are a tenth of a percent too loud."""

    def decode(self, hidden, lengths):
        return self.inner.decode(hidden, lengths) * np.float32(1.001)


class Shifted(Wrapper):
    """A language model whose hidden states are off by a ten-thousandth."""

    def prefill(self, ids, lengths):
        output = self.inner.prefill(ids, lengths)
        return output._replace(hidden=output.hidden + np.float32(1e-4))

    def step(self, ids, state):
        output = self.inner.step(ids, state)
        return output._replace(hidden=output.hidden + np.float32(1e-4))


FAULTS = {
    "sampler": lambda subject: with_stages(subject, sample=SAMPLERS["no penalty"]),
    "language model": lambda subject: with_backend(subject, Shifted),
    "decoder": lambda subject: with_backend(subject, Louder),
    "ISTFT": lambda subject: with_stages(subject, istft=ISTFTS["a symmetric window"]),
    "tokenise": lambda subject: with_stages(subject, tokenize=lambda sentence: [3, 1, 60, 61, 2]),
}


@pytest.mark.parametrize(
    "stages",
    [*[(name,) for name in FAULTS], *itertools.combinations(FAULTS, 2)],
    ids=" and ".join,
)
def test_stage_replacement_names_the_stages_that_are_wrong(stages):
    subject = Subject()
    for name in stages:
        subject = FAULTS[name](subject)
    found = replaced(subject, "onnx_cpu", MODELS["v11"], texts=["Why not 3?"])
    assert sorted(found.named) == sorted(stages), found.lines()
    assert abs(sum(c.share for c in found.contributions) - 1) < 1e-6
    worst = max(found.contributions, key=lambda c: c.share)
    assert worst.stage in stages
