"""Runs of the suite that must be red: what was selected, started, found or skipped wrongly."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from conformance import hooks as reporting
from conformance.golden.packs import fixture_models

MODEL = next(path for path in fixture_models() if path.name == "v11")


def run(*arguments: str) -> tuple[int, str]:
    """The suite's exit status and output in a fresh process."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *arguments]
    result = subprocess.run(command, capture_output=True, text=True)
    return result.returncode, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--backend", "abacus"), "abacus"),
        (("--model", "nowhere"), "nowhere"),
        (("--requirement", "ZZ-99"), "ZZ-99"),
        (("--requirement", "AO-02", "--requirement", "ZZ-99"), "ZZ-99"),
        (("-k", "no_such_test"), "deselected"),
        (("-k", "no_such_test", "-n", "2"), "no tests ran"),
        (("--benchmark-autosave", "-n", "2"), "run alone"),
        (("--backend", "abacus", "-n", "2"), "known:"),
        (("--model", "nowhere", "-n", "2"), "nowhere"),
        (("--requirement", "ZZ-99", "-n", "2"), "ZZ-99"),
    ],
)
def test_a_selection_that_selects_nothing_is_red(arguments, words):
    status, output = run("--pyargs", "conformance", *arguments)
    assert status not in (0,)
    assert words in output


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
def test_a_skip_that_is_not_listed_is_red(mark, port):
    command = [sys.executable, "-c", SKIPPING.format(mark=mark), "-p", "no:cacheprovider"]
    command += ["--pyargs", "conformance", "--requirement", "LM-02", "--model", str(MODEL)]
    command += ["--backend", f"conformance.meta.example_ports:{port}"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1, result.stdout
    assert "LM-02    error" in result.stdout


def test_a_backend_that_cannot_start_is_an_error(tmp_path):
    factory = "conformance.meta.example_ports:unable"
    arguments = ("--backend", factory, "--model", str(MODEL), "--requirement", "LM-01")
    status, output = run("--pyargs", "conformance", *arguments)
    assert status == 1
    assert "LM-01    error" in output
    assert "no such accelerator" in output


def test_a_model_without_golden_values_is_an_error(tmp_path):
    """Neither weights nor a pack of its identity: a bundle from elsewhere."""
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
        node.output[:] = ["frames" if name == output.name else name for name in node.output]
    output.name = "frames"
    path.write_bytes(graph.SerializeToString())
    arguments = ("--backend", "onnx_cpu", "--model", str(bundle), "--requirement", "DE-01")
    status, shown = run("--pyargs", "conformance", *arguments)
    assert status == 1
    assert "DE-01    pass" not in shown


def test_the_suite_runs_and_reports_without_knowledge_of_pytest(tmp_path):
    command = [sys.executable, "-m", "conformance", "run", "--requirement", "AO-02"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stdout
    report = tmp_path / "conformance-report"
    assert sorted(path.name for path in report.iterdir()) == ["conformance.json", "junit.xml"]
    document = json.loads((report / "conformance.json").read_text(encoding="utf-8"))
    assert document["results"]["shared"]["AO-02"]["verdict"] == "pass"
    shutil.rmtree(report)
    command[-1] = "ZZ-99"
    assert subprocess.run(command, capture_output=True, cwd=tmp_path).returncode == 2


@pytest.mark.parametrize("port", ["Port", "NoisyLogits"])
def test_processes_side_by_side_gather_the_same_evidence(tmp_path, port):
    arguments = ("--backend", f"conformance.meta.example_ports:{port}", "--model", str(MODEL))
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


def test_a_process_that_ends_before_it_gave_its_evidence_is_red():
    arguments = (
        "--backend",
        "conformance.meta.example_ports:Ending",
        "--model",
        str(MODEL),
        "-n",
        "1",
    )
    status, _ = run("--pyargs", "conformance", *arguments, "--requirement", "LM-02")
    assert status == 1


@pytest.mark.parametrize(("sent", "status"), [([], 1), (["conformance"], 0)])
def test_evidence_that_was_not_sent_makes_a_green_run_red(sent, status):
    """A process that ended between its last test and its end: no test says so."""
    config = SimpleNamespace(stash=pytest.Stash(), option=SimpleNamespace(xmlpath="junit.xml"))
    config.getoption = lambda name: None
    reporting.pytest_configure(config)
    output = {name: pickle.dumps(([], {})) for name in sent}
    reporting.pytest_testnodedown(SimpleNamespace(config=config, workeroutput=output))
    session = SimpleNamespace(config=config, exitstatus=0)
    reporting.pytest_sessionfinish(session, 0)
    assert session.exitstatus == status


def deviation(tmp_path: Path, bound: str, expires: str = "2999-01-01") -> str:
    """A claim that the steps of a noisy port err."""
    path = tmp_path / "deviations.toml"
    path.write_text(
        f"""
[[deviation]]
requirement = "LM-02"
subject = "conformance.meta.example_ports:*"
owner = "a port's author"
reason = "its steps are noisy"
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
def test_a_claimed_deviation_is_strict(tmp_path, port, bound, expires, verdict):
    claims = deviation(tmp_path, bound, expires)
    arguments = ("--backend", f"conformance.meta.example_ports:{port}", "--deviations", claims)
    arguments += ("--model", str(MODEL), "--requirement", "LM-02")
    status, output = run("--pyargs", "conformance", *arguments)
    assert f"LM-02    {verdict} " in output, output
    assert status == (0 if verdict == "deviation" else 1)


@pytest.mark.parametrize("claims", ["[[deviation]]", "x = 1", "[", None])
def test_a_file_of_claims_that_cannot_be_read_is_red(tmp_path, claims):
    path = tmp_path / "claims.toml"
    if claims is not None:
        path.write_text(claims, encoding="utf-8")
    arguments = ("--requirement", "AO-02", "--deviations", str(path))
    status, output = run("--pyargs", "conformance", *arguments)
    assert status == 4
    assert "claims.toml" in output
