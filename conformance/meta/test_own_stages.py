"""A port's own sampler and ISTFT: correct ones pass, and one fault fails what is about it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

SAMPLER = ("sampler", "random_streams", "conventions")  # without its edges, which are `should`
ALL = (*SAMPLER, "sampler_edges", "istft")
RED = ("fail", "error", "mistrusted")


def verdicts(tmp_path, modules, *ports):
    """By port, the verdicts of the requirements of its own sampler and ISTFT."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--tb=no"]
    command += ["--pyargs", *(f"conformance.laws.test_{name}" for name in modules)]
    command += ["--model", "v11", "--only-model", "--report-dir", str(tmp_path)]
    command += ["--requirement", "SA", "--requirement", "IS"]
    names = {port: f"conformance.meta.float32_ports:{port}" for port in ports}
    command += [word for name in names.values() for word in ("--backend", name)]
    output = subprocess.run(command, capture_output=True, text=True).stdout
    results = json.loads((tmp_path / "conformance.json").read_text())["results"]
    return {port: results[name] for port, name in names.items()}, output


def having(entries, *wanted):
    return {name for name, entry in entries.items() if entry["verdict"] in wanted}


@pytest.mark.slow
def test_correct_stages_in_float32_pass(tmp_path):
    ports = ("NumpyPort", "TorchPort", "BoundToItsModel", "GreedyPort")
    results, output = verdicts(tmp_path, ALL, *ports)
    red = {port: having(results[port], *RED) for port in ports}
    # `torch.istft` rejects no frame and one frame.
    assert red == {port: set() for port in ports} | {"TorchPort": {"IS-06"}}, output
    should = {"SA-07", "SA-10", "SA-11", "SA-12", "SA-13", "SA-14", "SA-25"}
    assert all(having(entries, "warning") <= should for entries in results.values())
    assert having(results["NumpyPort"], "not-applicable") == {"IS-08"}  # it declares no batches
    drawn = having(results["GreedyPort"], "not-applicable")
    assert {"SA-01", "SA-04", "SA-18"} <= drawn
    assert not {"SA-06", "SA-08", "SA-15", "SA-22"} & drawn


# Besides SA-22, which names the convention, and SA-02 and SA-18, which combine parts.
FAILED = {
    "GreedySamples": {"SA-08"},
    "TopPDropsAnId": {"SA-04"},
    "NoPenalty": {"SA-06"},
    "DrawnByRank": {"SA-01"},
    "ThreeFaults": {"SA-08", "SA-04", "SA-05", "SA-01"},
}
THREE = (
    "top-p only together with top-k + temperature 0 samples at temperature 1 "
    "+ drawn in the order of rank"
)


@pytest.mark.slow
def test_a_faulty_sampler_fails_the_requirements_about_the_fault(tmp_path):
    results, output = verdicts(tmp_path, SAMPLER, *FAILED)
    for port, expected in FAILED.items():
        failed = having(results[port], *RED)
        assert failed - {"SA-02", "SA-18"} == expected | {"SA-22"}, output
    (message,) = results["ThreeFaults"]["SA-22"]["failures"]
    assert f"you follow the convention '{THREE}'" in message


def test_an_istft_with_two_faults_is_told_both(tmp_path):
    results, output = verdicts(tmp_path, ("istft",), "SymmetricWindowAndItsSum")
    failed = having(results["SymmetricWindowAndItsSum"], *RED)
    assert failed == {"IS-01", "IS-26"}, output
    assert "'a symmetric window + the sum of windows instead of squares'" in output
