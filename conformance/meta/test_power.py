"""An honest port passes and a faulty one is told what it does, by the door of third parties."""

from __future__ import annotations

import subprocess
import sys

import pytest

from conformance.golden.packs import fixture_models

MODEL = next(path for path in fixture_models() if path.name == "v11")


def judge(port: str, *requirements: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--tb=no"]
    command += ["--pyargs", "conformance", "--model", str(MODEL), "--threads", "1"]
    command += [f"--requirement={name}" for name in requirements]
    command += ["--backend", f"conformance.meta.example_ports:{port}"]
    return subprocess.run(command, capture_output=True, text=True)


def test_an_honest_port_passes():
    result = judge("OwnStages", "LM-01", "SA-22", "IS-26", "SY-14", "ST-08")
    assert result.returncode == 0, result.stdout
    for name in ("LM-01", "SA-22", "IS-26", "SY-14", "ST-08"):
        assert f"{name}    pass" in result.stdout, result.stdout


def test_a_noisy_port_fails_the_requirement_it_breaks():
    result = judge("NoisyLogits", "LM-02")
    assert result.returncode == 1, result.stdout
    assert "LM-02    fail" in result.stdout, result.stdout


@pytest.mark.parametrize(
    ("port", "requirement", "convention"),
    [
        ("HiddenTopK", "SA-22", "top-k 50 where none was asked for"),
        ("SymmetricWindow", "IS-26", "a symmetric window"),
        ("LateStates", "SY-14", "the state after feeding a token"),
        ("LateStates", "ST-08", "the state after feeding a token"),
    ],
)
def test_a_port_with_another_convention_is_told_which(port, requirement, convention):
    result = judge(port, requirement)
    assert result.returncode == 1, result.stdout
    assert f"{requirement}    fail" in result.stdout, result.stdout
    assert f"you follow the convention '{convention}" in result.stdout, result.stdout
