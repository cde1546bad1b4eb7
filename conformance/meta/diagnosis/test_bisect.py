"""`bisect`: correct networks pass on every runtime, and a planted node is named."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from conformance.diagnosis.bisect import Bisection, bisect
from conformance.diagnosis.bisection import Search
from conformance.diagnosis.commands import bisect as command
from conformance.diagnosis.graph_runs import load
from conformance.diagnosis.networks import bisect_network, decoder_samples, graph_taps
from conformance.golden.packs import find_pack, fixture_models
from conformance.judging.vectors import Vectors
from conformance.meta.diagnosis.bfloat16 import traced
from conformance.meta.diagnosis.bisected import network_faults, outcomes
from conformance.oracle.network_steps import (
    decoder_steps,
    evaluate,
    language_model_steps,
)
from conformance.report.documents import Inputs
from conformance.report.sections import errors
from conformance.subject import Subject
from soprano.checkpoint.folder import ModelFolder
from soprano.onnx_graphs.source import DECODER, find_graph

MODELS = {path.name: path for path in fixture_models()}
SAMPLE = (
    "language-model/one-layers-epsilon", "language-model/rotation-base-assumed",
    "decoder/gelu-by-tanh", "decoder/length-baked-in", "decoder/phase-in-half-precision",
)  # fmt: skip


@pytest.mark.parametrize("name", ["v11", "heads", "n600"])
def test_the_steps_are_the_networks_of_the_oracle(name):
    folder = ModelFolder.open(MODELS[name])
    networks, config = find_pack(MODELS[name]).networks(), folder.config
    ids = np.arange(20)
    found = evaluate(
        language_model_steps(config.language_model), folder.language_model_weights(), {"ids": ids}
    )
    logits, hidden = networks.language_model(ids)
    np.testing.assert_allclose(found["logits"].expected, logits, atol=1e-5)
    np.testing.assert_allclose(found["last_hidden_state"].expected, hidden, atol=1e-5)
    states = hidden[:7].astype(np.float32)
    steps = decoder_steps(config.decoder)
    spectrum = evaluate(steps, folder.decoder_weights(), {"hidden_states": states})["spectrum"]
    expected = networks.decoder(states)
    np.testing.assert_allclose(spectrum.expected, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("name", "linear"),
    [("onnx_cpu", False), ("onnx_cpu", True), ("openvino_cpu", True), ("pytorch", True)],
)
def test_no_node_of_a_correct_backend_is_wrong(name, linear):
    found = bisect(Subject(), name, MODELS["v11"], linear=linear)
    assert not found.wrong, found.lines()
    assert len(found.searches) == 2
    compared = sum(len(search.found.rows) for search in found.searches)
    assert compared > (60 if linear else 1)


@pytest.mark.parametrize("name", SAMPLE)
def test_a_planted_node_or_its_consumer_is_named(name):
    assert name in network_faults()
    (found,) = outcomes([name], ("onnx_cpu",))
    assert found.hit, found


def test_bfloat16_begins_at_the_first_matmul_and_exp_cos_and_sin_amplify_it():
    search = traced(MODELS["v11"])
    found = search.found
    assert found.first == found.start == "decoder.embed"
    assert {row.node for row in found.amplifiers} >= {"head.magnitude", "head.cos", "head.sin"}
    assert next(row for row in found.trace if row.node == found.start).ratio > 1000
    page = errors(Inputs(bisections=[Bisection(None, [search]).document()]))
    assert "The first wrong node is decoder.embed." in page
    assert "It starts at decoder.embed; multiplied most by head.magnitude" in page


def test_what_openvino_chooses_is_searched():
    ov = pytest.importorskip("openvino")
    narrow = "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    folder = ModelFolder.open(MODELS["v11"])
    vectors = Vectors(find_pack(MODELS["v11"]), folder.config)
    taps = graph_taps(folder, DECODER, "openvino_cpu", f32=False)
    search = bisect_network(DECODER, taps, folder, folder, vectors)
    assert taps.granted == ("bf16" if narrow else "f32")
    assert bool(search.found.first) is narrow


def test_golden_inputs_keep_an_error_out_of_later_segments():
    folder = ModelFolder.open(MODELS["v11"])
    vectors = Vectors(find_pack(MODELS["v11"]), folder.config)
    weights, steps = folder.decoder_weights(), decoder_steps(folder.config.decoder)
    samples = decoder_samples(vectors, weights, steps, None)
    search = Search("decoder", graph_taps(folder, DECODER, "onnx_cpu"), steps, samples, weights)
    search.weights["decoder.convnext.2.gamma"] = 2 * search.weights["decoder.convnext.2.gamma"]
    for sample in search.samples:  # the golden value is wrong: the graph is right elsewhere
        sample.values["decoder.convnext.2.scaled"].expected[...] *= 2
    search.linear()
    wrong = {row.node for row in search.found.rows if row.ratio > 6}
    assert wrong == {"decoder.convnext.2.scaled"}


class Tapped:
    """A port that answers `tap` with the values of the steps, one of them wrong."""

    def __init__(self, folder, wrong):
        self.folder, self.wrong = folder, wrong

    def __call__(self, names, hidden=None, ids=None):
        config = self.folder.config
        if ids is not None:
            steps, weights = language_model_steps(config.language_model), "language_model_weights"
            inputs = {"ids": np.asarray(ids)}
        else:
            steps, weights = decoder_steps(config.decoder), "decoder_weights"
            inputs = {"hidden_states": np.asarray(hidden)}
        values = evaluate(steps, getattr(self.folder, weights)(), inputs)
        found = {n: v.expected.astype(np.float32) for n, v in values.items() if n in names}
        if self.wrong in found:
            found[self.wrong] = found[self.wrong] * np.float32(1.001)
        return found


@pytest.mark.parametrize("wrong", ["", "model.layers.1.mlp.product", "decoder.convnext.4.gelu"])
def test_the_values_of_a_ports_tap_are_compared(wrong):
    subject = Subject()

    def open_backend(*arguments):
        backend = subject.open_backend(*arguments)
        backend.tap = Tapped(ModelFolder.open(MODELS["v11"]), wrong)
        return backend

    found = bisect(Subject(open_backend=open_backend), "onnx_cpu", MODELS["v11"])
    assert [s.found.first for s in found.searches if s.found.first] == [wrong] * bool(wrong)


def test_the_smallest_failing_part_runs_on_its_own(tmp_path):
    folder = ModelFolder.open(MODELS["v11"])
    graph = load(find_graph(folder, DECODER))
    for node in graph.graph.node:
        if node.name == "decoder.convnext.3.norm":
            next(a for a in node.attribute if a.name == "epsilon").f = 1e-2
    (tmp_path / "decoder.onnx").write_bytes(graph.SerializeToString())
    arguments = ["--backend", f"onnx:{tmp_path / 'decoder.onnx'}", "--json"]
    result = CliRunner().invoke(command, [*arguments, "-o", str(tmp_path / "part")])
    assert result.exit_code == 1, result.output
    (network,) = json.loads(result.stdout)["networks"]
    assert network["first"] == "decoder.convnext.3.norm"
    run = subprocess.run(
        [sys.executable, str(tmp_path / "part" / "run.py")], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("decoder.convnext.3.norm: rms error")


def test_a_text_is_one_of_the_samples():
    result = CliRunner().invoke(command, ["--backend", "onnx_cpu", "--input", "Why not?", "--json"])
    document = json.loads(result.stdout)
    assert result.exit_code == 0, result.output
    assert [network["network"] for network in document["networks"]] == ["language model", "decoder"]
    assert not document["wrong"]
