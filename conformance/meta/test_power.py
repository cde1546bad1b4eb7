"""An honest port passes and a faulty one does not, through the door that third parties use."""

from __future__ import annotations

import subprocess
import sys

import pytest

from conformance.vectors import fixture_models

MODEL = next(path for path in fixture_models() if path.name == "v11")


def judge(port: str, tests: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--tb=no"]
    command += ["--pyargs", "conformance", "-k", tests, "--model", str(MODEL), "--threads", "1"]
    command += ["--backend", f"conformance.meta.planted:{port}"]
    return subprocess.run(command, capture_output=True, text=True)


def test_an_honest_port_passes():
    result = judge("Port", "test_lm or test_decoder")
    assert result.returncode == 0, result.stdout
    assert "LM-01    pass" in result.stdout


@pytest.mark.parametrize(
    ("port", "tests", "requirement"),
    [
        ("NoisyLogits", "test_lm", "LM-02"),
        ("OneBadBin", "test_decoder", "DE-01"),
        ("SharedBuffer", "test_lm", "LM-07"),
        ("UnclippedHead", "test_decoder", "DE-04"),
        ("ZeroPaddedBatch", "test_decoder", "BA-03"),
    ],
)
def test_a_faulty_port_fails_the_requirement_it_breaks(port, tests, requirement):
    result = judge(port, tests)
    assert result.returncode == 1, result.stdout
    assert f"{requirement}    fail" in result.stdout, result.stdout
