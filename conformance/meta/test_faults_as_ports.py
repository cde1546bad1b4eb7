"""Faults of stages are found behind a process as in the process of the suite, with their names."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from conformance.faults.cli import faults

SAMPLE = {
    "sampler/crossing-id-dropped": True,  # whether it is named
    "istft/symmetric-window": True,
    "tokenizer/spaces-dropped": False,
    "kv-cache/fork-shares-with-its-original": False,
    "decoder/gelu-by-tanh": False,
}


def verdicts(folder, names, *options):
    arguments = ["--as-port", "--jobs", "1", "-o", str(folder), *options]
    arguments += [word for name in names for word in ("--only", name)]
    CliRunner().invoke(faults, arguments)
    results = json.loads((folder / "faults.json").read_text(encoding="utf-8"))["results"]
    found = {each["id"]: (each["verdict"], bool(each["conventions"])) for each in results}
    return {name: found[name] for name in names}


def test_a_fault_is_caught_and_named_through_exec(tmp_path):
    name = "sampler/crossing-id-dropped"
    assert verdicts(tmp_path, [name], "--exec") == {name: ("caught", True)}


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--exec",), ("--in-process",)])
def test_faults_of_stages_are_caught_in_every_kind_of_process(tmp_path, options):
    wanted = {name: ("caught", named) for name, named in SAMPLE.items()}
    assert verdicts(tmp_path, SAMPLE, *options) == wanted
