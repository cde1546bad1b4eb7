"""A correct port passes, and a port with a wrong convention is told which one it follows."""

from __future__ import annotations

import subprocess
import sys

import pytest

from conformance.golden.packs import fixture_models
from conformance.oracle.conventions import (
    ISTFTS,
    SAMPLERS,
    istfts_followed,
    samplers_followed,
)
from conformance.oracle.parametric_stages import Istft, Sampler

MODEL = next(path for path in fixture_models() if path.name == "v11")


def judge(port, *requirements):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--tb=no"]
    command += ["--pyargs", "conformance", "--model", str(MODEL), "--threads", "1"]
    command += [f"--requirement={name}" for name in requirements]
    command += ["--backend", f"conformance.meta.example_ports:{port}"]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_correct_port_passes():
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
def test_a_port_is_told_the_convention_it_follows(port, requirement, convention):
    result = judge(port, requirement)
    assert result.returncode == 1, result.stdout
    assert f"{requirement}    fail" in result.stdout, result.stdout
    assert f"you follow the convention '{convention}" in result.stdout, result.stdout


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_convention_is_recognised_and_no_other(name):
    assert samplers_followed(SAMPLERS[name]) == [name]


@pytest.mark.parametrize("name", ISTFTS)
def test_an_istft_convention_is_recognised_and_no_other(name):
    assert istfts_followed(ISTFTS[name]) == [name]


def test_correct_stages_follow_no_convention():
    assert samplers_followed(Sampler()) == []
    assert istfts_followed(Istft()) == []
