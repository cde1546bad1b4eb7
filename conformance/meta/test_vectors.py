"""Vector packs: the files of a conforming port pass, those of a wrong one fail and are blamed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

from conformance.golden.observations import teacher_force
from conformance.golden.packs import fixture_models
from conformance.oracle.istft_conventions import ISTFTS
from conformance.vectors.commands import vectors as command
from conformance.vectors.packs import check, export
from soprano import istft, normalize, sample
from soprano.backends import open_backend
from soprano.config import IstftConfig, SamplingOptions
from soprano.text import split_sentences
from soprano.tokenizer import Tokenizer

V11 = next(path for path in fixture_models() if path.name == "v11")


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pack") / "v11"
    export(V11, folder)
    return folder


def inputs_of(folder):
    found = {}
    if (folder / "inputs.safetensors").exists():
        found |= load_file(folder / "inputs.safetensors")
    if (folder / "inputs.json").exists():
        found |= json.loads((folder / "inputs.json").read_text())
    return found


class Port:
    """Writes the outputs of every case that it has a method for."""

    def __init__(self):
        self.backend = open_backend("onnx_cpu", V11)
        self.tokenizer = Tokenizer(V11 / "tokenizer.json")
        self.inverse = istft

    def write(self, pack, target):
        for entry in json.loads((pack / "manifest.json").read_text())["cases"]:
            method = getattr(self, entry["name"].split("-")[0], None)
            if method is None:
                continue
            outputs = method(inputs_of(pack / entry["name"]), entry["settings"])
            folder = target / entry["name"]
            folder.mkdir(parents=True)
            arrays = {k: v for k, v in outputs.items() if isinstance(v, np.ndarray)}
            if arrays:
                save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()},
                          folder / "outputs.safetensors")  # fmt: skip
            rest = {k: v for k, v in outputs.items() if k not in arrays}
            (folder / "outputs.json").write_text(json.dumps(rest))
        return target

    def normalize(self, inputs, settings):
        return {"normalized": [normalize(text) for text in inputs["texts"]]}

    def split(self, inputs, settings):
        return {"sentences": [split_sentences(text) for text in inputs["texts"]]}

    def tokenize(self, inputs, settings):
        return {"ids": [self.tokenizer.prompt(sentence) for sentence in inputs["sentences"]]}

    def sample(self, inputs, settings):
        rows = zip(
            inputs["logits"], inputs["histories"], inputs["options"], inputs["uniforms"],
            strict=True,
        )  # fmt: skip
        return {"ids": [sample(x, h, SamplingOptions(**o), u) for x, h, o, u in rows]}

    def prefill(self, inputs, settings):
        output = self.backend.prefill(inputs["ids"], inputs["lengths"])
        return {"logits": output.logits, "hidden": output.hidden}

    def step(self, inputs, settings):
        first = self.backend.prefill(inputs["ids"], inputs["lengths"])
        steps = list(teacher_force(self.backend, first, inputs["step_ids"]))
        return {
            "logits": np.stack([output.logits for output in steps], axis=1),
            "hidden": np.stack([output.hidden for output in steps], axis=1),
        }

    def prefix(self, inputs, settings):
        rows = [
            self.backend.prefill(inputs["ids"][None, :n], np.array([n])) for n in inputs["lengths"]
        ]
        return {kind: np.concatenate([getattr(r, kind) for r in rows])
                for kind in ("logits", "hidden")}  # fmt: skip

    def spectra(self, inputs):
        states = [inputs[f"hidden_{i}"] for i in range(len(inputs))]
        return [self.backend.decode(h[None], np.array([len(h)]))[0] for h in states]

    def decode(self, inputs, settings):
        return {f"spectrum_{i}": values for i, values in enumerate(self.spectra(inputs))}

    def istft(self, inputs, settings):
        return {"samples": self.inverse(inputs["spectrum"][None], IstftConfig(**settings))[0]}

    def decode_audio(self, inputs, settings):
        config = self.backend.config.decoder.istft
        samples = [self.inverse(spectrum[None], config)[0] for spectrum in self.spectra(inputs)]
        return {f"samples_{i}": values for i, values in enumerate(samples)}


def verdicts(pack, outputs):
    return {name: record.verdict for name, record in check(pack, outputs, "port").records.items()}


def test_the_outputs_of_a_conforming_port_pass(pack, tmp_path):
    found = verdicts(pack, Port().write(pack, tmp_path / "out"))
    assert set(found.values()) == {"pass", "not-applicable"}
    judged = {name for name, verdict in found.items() if verdict == "pass"}
    assert {name.split("::")[0].split("-")[0] for name in judged} == {
        "normalize", "split", "tokenize", "sample", "prefill", "step", "prefix", "decode",
        "istft", "decode_audio",
    }  # fmt: skip


def test_a_wrong_istft_fails_where_it_is_used(pack, tmp_path):
    port = Port()
    port.inverse = ISTFTS["a symmetric window"]
    found = verdicts(pack, port.write(pack, tmp_path / "out"))
    failed = {name.split("::")[0].split("-")[0] for name, v in found.items() if v == "fail"}
    assert failed == {"istft", "decode_audio"}


@pytest.mark.parametrize("case", ["prefill", "sample", "normalize", "decode"])
def test_outputs_of_zeros_or_nothing_fail(pack, tmp_path, case):
    class Empty(Port):
        def write(self, pack, target):
            super().write(pack, target)
            folder = target / case
            if (folder / "outputs.safetensors").exists():
                arrays = load_file(folder / "outputs.safetensors")
                save_file({k: 0 * v for k, v in arrays.items()}, folder / "outputs.safetensors")
            else:
                values = json.loads((folder / "outputs.json").read_text())
                (folder / "outputs.json").write_text(json.dumps({k: [] for k in values}))
            return target

    found = verdicts(pack, Empty().write(pack, tmp_path / "out"))
    assert {name.split("::")[0] for name, verdict in found.items() if verdict == "fail"} == {case}


def test_command_refuses_a_changed_pack_and_a_folder_without_outputs(pack, tmp_path):
    outputs = tmp_path / "out"
    outputs.mkdir()
    arguments = ["check", str(pack), "--outputs", str(outputs), "--report-dir", str(tmp_path / "r")]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 2
    assert "no outputs" in result.output
    Port().write(pack, outputs)
    assert CliRunner().invoke(command, arguments).exit_code == 0
    report = json.loads((tmp_path / "r/conformance.json").read_text())
    assert report["first_failure"] is None
    changed = tmp_path / "changed"
    export(V11, changed)
    path = changed / "prefill/expected.safetensors"
    save_file({k: v + 1 for k, v in load_file(path).items()}, path)
    result = CliRunner().invoke(command, ["check", str(changed), *arguments[2:]])
    assert result.exit_code == 2
    assert "has changed" in result.output
