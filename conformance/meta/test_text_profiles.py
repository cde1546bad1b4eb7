"""A port with the text front end of a known package, with and without its profile."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from conformance.meta.example_ports import Port
from conformance.text_profiles import TextUnderTest, load_profile, profile_names
from soprano.text import normalize, split_sentences

NAME = "soprano-tts-0.2.0"
PROFILE = load_profile(NAME)
RED = ("fail", "error", "mistrusted")


class Follower(Port):
    """What is recorded of the package; elsewhere what this package does."""

    def normalize(self, text: str) -> str:
        if text in PROFILE.sentences:
            return text
        reading = PROFILE.readings.get(text, normalize(text))
        if reading is None:
            raise OverflowError(text)
        return reading

    def split(self, normalized: str) -> list[str]:
        return list(PROFILE.sentences.get(normalized, split_sentences(normalized)))


class OtherTimes(Follower):
    """The same, with a fault of its own."""

    def normalize(self, text: str) -> str:
        return super().normalize(text).replace("eight fifteen", "eight one five")


def results(tmp_path, port, *options, requirement="TX"):
    command = [sys.executable, "-m", "conformance", "run", "--model", "v11", "--only-model"]
    command += ["--backend", f"conformance.meta.test_text_profiles:{port}", *options]
    command += [
        "--requirement",
        requirement,
        "--report-dir",
        str(tmp_path),
        "-p",
        "no:cacheprovider",
    ]
    run = subprocess.run(command, capture_output=True, text=True)
    document = json.loads((tmp_path / "conformance.json").read_text())
    (entries,) = document["results"].values()
    red = {name for name, entry in entries.items() if entry["verdict"] in RED}
    return red, entries, document, run.stdout


def test_under_its_profile_a_port_passes_and_its_differences_are_listed(tmp_path):
    red, entries, _, output = results(tmp_path, "Follower", "--text", NAME)
    assert red == set(), output
    assert entries["TX-14"]["verdict"] == "deviation"
    (listed,) = entries["TX-14"]["failures"]
    assert "'£20' is" in listed
    assert entries["TX-09"]["verdict"] == "pass"
    assert entries["TX-36"]["verdict"] == "not-applicable"


def test_without_the_profile_one_requirement_fails_and_names_the_package(tmp_path):
    red, entries, document, output = results(tmp_path, "Follower")
    assert red == {"TX-64"}, output
    assert NAME in document["first_failure"]["convention"]
    assert "deviation" in {entry["verdict"] for entry in entries.values()}


def test_a_fault_besides_the_profile_fails_its_requirement(tmp_path):
    red, _, _, output = results(tmp_path, "OtherTimes", "--text", NAME, requirement="TX-1")
    assert red == {"TX-10"}, output


def test_our_own_front_end_follows_no_profile():
    assert profile_names() == [NAME]
    assert TextUnderTest(normalize, None).profile is None
    assert TextUnderTest(normalize, NAME).profile is PROFILE
    with pytest.raises(KeyError):
        load_profile("another")
