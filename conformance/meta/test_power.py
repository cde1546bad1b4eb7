"""A correct port passes, and a port with a wrong convention is told which one it follows."""

from __future__ import annotations

import subprocess
import sys

import pytest

from conformance.golden.packs import fixture_models
from conformance.oracle.combinations import combine
from conformance.oracle.istft_conventions import EDGES, ISTFTS, OTHERS, SMALL, istfts_followed
from conformance.oracle.parametric_stages import Istft, Sampler
from conformance.oracle.sampler_conventions import SAMPLERS, STOP_BIASES, samplers_followed

MODEL = next(path for path in fixture_models() if path.name == "v11")


def judge(port, *requirements):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--tb=no"]
    command += ["--pyargs", "conformance", "--model", str(MODEL), "--only-model", "--threads", "1"]
    command += [f"--requirement={name}" for name in requirements]
    command += ["--backend", f"conformance.meta.example_ports:{port}"]
    return subprocess.run(command, capture_output=True, text=True)


STAGES = ("AO-11", "AO-12", "CK-18", "GE-17", "SY-21", "TX-36")
LOOPS = ("GE-16", "SY-14", "ST-08", "ST-10", "ST-11", "BA-06")


@pytest.mark.parametrize(
    ("port", "requirements"),
    [
        ("OwnStages", ("LM-01", "SA-22", "SA-24", "IS-26", *LOOPS, *STAGES)),
        ("AudioDecoder", ("DE-10", "DE-11", "DE-12", "DE-13", "DE-14", "SY-01", "ST-08")),
        pytest.param("Greedy", ("SA-08", "GE-16", "SY-14", "ST-10"), marks=pytest.mark.slow),
        pytest.param("ShortContext", ("LM-03", "DE-06", "GE-16", "SY-14"), marks=pytest.mark.slow),
    ],
)
def test_a_correct_port_passes(port, requirements):
    result = judge(port, *requirements)
    assert result.returncode == 0, result.stdout
    for name in requirements:
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


@pytest.mark.parametrize("name", [*SAMPLERS, *STOP_BIASES])
def test_a_sampler_convention_is_recognised_and_no_other(name):
    assert samplers_followed({**SAMPLERS, **STOP_BIASES}[name]) == [name]


@pytest.mark.parametrize("name", ISTFTS)
def test_an_istft_convention_is_recognised_and_no_other(name):
    found = [istfts_followed(ISTFTS[name], configs) for configs in (SMALL, OTHERS)]
    assert [name] in found
    assert [] in found or found[0] == [name]


@pytest.mark.parametrize("name", EDGES)
def test_a_convention_about_dc_and_nyquist_is_recognised(name):
    assert istfts_followed(EDGES[name], edges=True) == [name]
    assert istfts_followed(EDGES[name]) == []


def combination(known, names):
    stage = known[names[0]]
    for name in names[1:]:
        stage = combine(stage, known[name])
    return stage


@pytest.mark.parametrize(
    "names",
    [
        ["temperature 0 samples at temperature 1", "no penalty"],
        ["a penalty applied twice", "top-p before top-k"],
        [
            "temperature 0 samples at temperature 1",
            "top-p only together with top-k",
            "drawn in the order of rank",
        ],
    ],
    ids=" + ".join,
)
def test_a_combination_of_sampler_conventions_is_recognised(names):
    (found,) = samplers_followed(combination(SAMPLERS, names))
    assert sorted(found.split(" + ")) == sorted(names)


@pytest.mark.parametrize(
    "names",
    [
        ["a symmetric window", "the sum of windows instead of squares"],
        ["the conjugate spectrum", 'trimmed for "same" padding'],
        ["frames are not windowed", "an FFT of the next power of two", "the last hop is missing"],
    ],
    ids=" + ".join,
)
def test_a_combination_of_istft_conventions_is_recognised(names):
    (found,) = istfts_followed(combination(ISTFTS, names))
    assert sorted(found.split(" + ")) == sorted(names)


def test_another_level_is_recognised():
    symmetric = ISTFTS["a symmetric window"]
    level = "the level is wrong by a factor of 0.3"
    assert istfts_followed(lambda s, c: 0.3 * Istft()(s, c)) == [level]
    assert istfts_followed(lambda s, c: 0.3 * symmetric(s, c)) == [f"a symmetric window + {level}"]


def test_a_silent_start_is_recognised():
    def silenced(spectrum, config):
        samples = Istft()(spectrum, config)
        samples[:, :8000] = 0
        return samples

    assert istfts_followed(silenced) == ["the first 8,000 samples are silent"]


def test_a_sampler_that_is_asked_without_temperature_is_recognised():
    name = "temperature 0 takes the last of equal logits"
    assert samplers_followed(SAMPLERS[name], sampled=False) == [name]
    indistinguishable = ["temperature 0 ignores the penalty", "no penalty"]
    assert samplers_followed(SAMPLERS["no penalty"], sampled=False) == indistinguishable


def test_correct_stages_follow_no_convention():
    for size in (91, 378):
        assert samplers_followed(Sampler(), size) == []
    for configs in (SMALL, OTHERS):
        assert istfts_followed(Istft(), configs) == []
    assert istfts_followed(Istft(), edges=True) == []
