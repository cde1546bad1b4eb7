"""Runs of the suite that must fail: unknown selections, missing backends, skips."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.golden.packs import fixture_models
from soprano.checkpoint.manifest import write_manifest

MODEL = next(path for path in fixture_models() if path.name == "v11")
PORTS = "conformance.meta.example_ports"


@pytest.fixture(autouse=True)
def _one_model(monkeypatch):
    """A model that is named is the only one of the run."""
    monkeypatch.setenv("CONFORMANCE_ONLY_MODEL", "1")


def run(*arguments, **options):
    """The suite's exit status and output in a fresh process."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, **options)
    return result.returncode, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--backend", "abacus"), "abacus"),
        (("--model", "nowhere"), "nowhere"),
        (("--requirement", "ZZ-99"), "ZZ-99"),
        (("--requirement", "SA-02", "--requirement", "ZZ-99"), "ZZ-99"),
        (("-k", "no_such_test"), "deselected"),
        (("-k", "no_such_test", "-n", "2"), "no tests ran"),
        (("--benchmark-autosave", "-n", "2"), "omit -n"),
        (("--backend", "abacus", "-n", "2"), "known:"),
        (("--model", "nowhere", "-n", "2"), "nowhere"),
        (("--requirement", "ZZ-99", "-n", "2"), "ZZ-99"),
    ],
)
def test_a_selection_without_tests_is_an_error(arguments, message):
    status, output = run("--pyargs", "conformance", *arguments)
    assert status != 0
    assert message in output


SKIPPING = """
import sys, pytest

class Skipping:
    def pytest_collection_modifyitems(self, items):
        for item in items:
            item.add_marker({mark})

sys.exit(pytest.main(sys.argv[1:], plugins=[Skipping()]))
"""


@pytest.mark.parametrize(
    ("mark", "port"),
    [("pytest.mark.skip('not today')", "Port"), ("pytest.mark.xfail", "NoisyLogits")],
)
def test_a_skip_that_is_not_listed_is_an_error(mark, port):
    command = [sys.executable, "-c", SKIPPING.format(mark=mark), "-p", "no:cacheprovider"]
    command += ["--pyargs", "conformance", "--requirement", "LM-02", "--model", str(MODEL)]
    command += ["--backend", f"{PORTS}:{port}"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1, result.stdout
    assert "LM-02    error" in result.stdout


@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        ("unable", "cannot open v11: BackendError: no such accelerator"),
        ("absent", "cannot open v11: BackendError"),
        ("incomplete", "lacks step, decode of the protocol"),
    ],
)
def test_a_backend_that_cannot_be_judged_is_one_sentence(factory, reason):
    arguments = ("--backend", f"{PORTS}:{factory}", "--model", str(MODEL))
    status, output = run("--pyargs", "conformance", *arguments)
    assert status == 4
    assert f"ERROR: backend {PORTS}:{factory} {reason}" in output
    assert len(output.splitlines()) < 5


@pytest.mark.parametrize("processes", ["0", "2"])
def test_a_failing_run_fits_on_a_screen_and_ends_with_the_first_failing_stage(tmp_path, processes):
    command = [sys.executable, "-m", "conformance", "run", "--model", str(MODEL)]
    command += ["--backend", f"{PORTS}:SymmetricWindow"]
    command += ["--requirement", "IS-01", "--requirement", "IS-26", "-n", processes]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 1, result.stdout
    lines = result.stdout.splitlines()
    assert len(lines) < 30
    assert any(line.startswith("ISTFT: IS-01 fail") for line in lines)
    assert "you follow the convention: a symmetric window" in lines
    report = tmp_path / "conformance-report" / "conformance.json"
    failure = json.loads(report.read_text(encoding="utf-8"))["first_failure"]
    assert (failure["stage"], failure["requirement"]) == ("ISTFT", "IS-01")
    assert failure["convention"] == "a symmetric window"
    assert lines[-1] == f"repeat with: {failure['repeat']}"


def test_a_model_without_golden_values_is_an_error(tmp_path):
    """A bundle whose source weights are not among the golden packs."""
    from soprano.export.bundle import export_bundle

    bundle = export_bundle(MODEL, tmp_path / "bundle", to="openvino")
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    manifest["model"]["identity"] = "0" * 64
    (bundle / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    arguments = ("--backend", "openvino_cpu", "--model", str(bundle), "--requirement", "LM-01")
    status, output = run("--pyargs", "conformance", *arguments)
    assert status == 1
    assert "LM-01    error" in output
    assert "--reference" in output
    status, output = run("--pyargs", "conformance", *arguments, "--reference", str(MODEL))
    assert status == 0, output


def test_an_output_of_another_name_is_an_error(tmp_path):
    import onnx

    from soprano.export.bundle import export_bundle

    bundle = export_bundle(MODEL, tmp_path / "bundle", to="onnx")
    path = bundle / "onnx" / "decoder.onnx"
    graph = onnx.load(path, load_external_data=False)
    output = graph.graph.output[0]
    for node in graph.graph.node:
        node.output[:] = ["renamed" if name == output.name else name for name in node.output]
    output.name = "renamed"
    path.write_bytes(graph.SerializeToString())
    write_manifest(bundle, json.loads((bundle / "manifest.json").read_text(encoding="utf-8")))
    arguments = ("--backend", "onnx_cpu", "--model", str(bundle), "--requirement", "DE-01")
    status, shown = run("--pyargs", "conformance", *arguments)
    assert status == 1
    assert "DE-01    pass" not in shown


def test_the_run_command_judges_and_writes_reports(tmp_path):
    command = [sys.executable, "-m", "conformance", "run", "--requirement", "SA-02"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stdout
    report = tmp_path / "conformance-report"
    written = ["badge.json", "conformance.json", "junit.xml"]
    assert sorted(path.name for path in report.iterdir()) == written
    document = json.loads((report / "conformance.json").read_text(encoding="utf-8"))
    assert document["results"]["shared"]["SA-02"]["verdict"] == "pass"
    shutil.rmtree(report)
    command[-1] = "ZZ-99"
    assert subprocess.run(command, capture_output=True, cwd=tmp_path).returncode == 2


@pytest.mark.parametrize(
    ("module", "command", "extra"),
    [
        ("hypothesis", "contract", "conformance"),
        ("scipy", "run", "conformance"),
        ("pytest_benchmark", "bench", "bench"),
    ],
)
def test_a_command_without_its_libraries_names_the_extra(module, command, extra):
    code = f"import runpy, sys; sys.modules[{module!r}] = None; runpy.run_module('conformance')"
    arguments = [sys.executable, "-c", code, command]
    result = subprocess.run(arguments, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert f"[{extra}]" in result.stderr


@pytest.mark.parametrize("port", ["Port", "NoisyLogits"])
def test_several_processes_collect_the_evidence_of_one(tmp_path, port):
    arguments = ("--backend", f"{PORTS}:{port}", "--model", str(MODEL))
    arguments += ("--pyargs", "conformance", "--requirement", "LM")
    documents, statuses = [], []
    for processes in ("0", "2"):
        folder = tmp_path / processes
        statuses.append(run(*arguments, "-n", processes, "--report-dir", str(folder))[0])
        written = json.loads((folder / "conformance.json").read_text(encoding="utf-8"))
        for result in written["results"].values():
            for entry in result.values():
                entry["failures"].sort()  # in order of arrival
        documents.append(written)
    assert statuses == [0, 0] if port == "Port" else [1, 1]
    assert documents[0] == documents[1]


def deviation_file(tmp_path, bound, expires):
    """A claim on the logits of the decode steps of an example port."""
    path = tmp_path / "deviations.toml"
    path.write_text(
        f"""
[[deviation]]
requirement = "LM-02"
subject = "{PORTS}:*"
owner = "the author of the port"
reason = "noise in the logits of a step"
bound = {bound}
expires = {expires}
""",
        encoding="utf-8",
    )
    return str(path)


@pytest.mark.parametrize(
    ("port", "bound", "expires", "verdict"),
    [
        ("NoisyLogits", "1000.0", "2999-01-01", "deviation"),
        ("NoisyLogits", "1.01", "2999-01-01", "fail"),
        ("NoisyLogits", '"exact"', "2999-01-01", "fail"),
        ("NoisyLogits", "1000.0", "2020-01-01", "fail"),
        ("Port", "1000.0", "2999-01-01", "fail"),
    ],
)
def test_a_claimed_deviation_must_occur_within_its_bound_and_date(
    tmp_path, port, bound, expires, verdict
):
    claims = deviation_file(tmp_path, bound, expires)
    arguments = ("--backend", f"{PORTS}:{port}", "--deviations", claims)
    arguments += ("--model", str(MODEL), "--requirement", "LM-02")
    status, output = run("--pyargs", "conformance", *arguments)
    assert f"LM-02    {verdict} " in output, output
    assert status == (0 if verdict == "deviation" else 1)


@pytest.mark.parametrize("claims", ["[[deviation]]", "x = 1", "[", None])
def test_an_invalid_file_of_claims_is_an_error(tmp_path, claims):
    path = tmp_path / "claims.toml"
    if claims is not None:
        path.write_text(claims, encoding="utf-8")
    arguments = ("--requirement", "SA-02", "--deviations", str(path))
    status, output = run("--pyargs", "conformance", *arguments)
    assert status == 4
    assert "claims.toml" in output


WRONG_SAMPLER = """
from conformance.meta.example_ports import Port

class FirstId(Port):
    def sample(self, logits, history, options, uniform):
        return 0
"""


@pytest.mark.parametrize(
    "test",
    [
        "test_sampler::test_each_id_is_drawn_by_the_uniforms_of_its_interval",
        "test_random_streams::test_golden_logits_and_uniforms_give_the_golden_ids",
    ],
)
def test_the_printed_command_repeats_a_failure_in_any_folder(tmp_path, test):
    (tmp_path / "wrong_port.py").write_text(WRONG_SAMPLER, encoding="utf-8")
    (tmp_path / "claims.toml").touch()
    scripts = Path(sys.executable).parent
    path = {"PYTHONPATH": str(tmp_path), "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    arguments = ("--backend", "wrong_port:FirstId", "--model", "v11", "--deviations", "claims.toml")
    status, output = run(
        "--pyargs",
        f"conformance.laws.{test}",
        "-x",
        *arguments,
        cwd=tmp_path,
        env=os.environ | path,
    )
    assert status == 1
    _, _, command = output.partition(" repeat with ")
    command = command.splitlines()[1]
    assert {"[", ",", "]"} < set(command)
    elsewhere = tmp_path / "another folder"
    elsewhere.mkdir()
    again = subprocess.run(
        ["sh", "-c", command], cwd=elsewhere, env=os.environ | path, capture_output=True, text=True
    )
    assert again.returncode == 1, again.stdout + again.stderr
    assert "1 failed" in again.stdout
    assert errors(again.stdout) == errors(output) != []


def errors(output):
    """The lines of a traceback that state the error, and the place of the error."""
    return [line for line in output.splitlines() if line.startswith("E  ") or "Error" in line]
