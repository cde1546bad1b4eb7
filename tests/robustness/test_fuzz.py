"""A share of the fuzzing in every run; the command runs as long as it is told to."""

from __future__ import annotations

import pytest

from .fuzz import PARSERS, fault_of, fuzz


@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_accepts_mutated_bytes_or_names_the_file_on_one_line(name):
    assert fuzz([name], seconds=20, seed=1, most=60) == []


def test_a_parser_that_raises_anything_else_is_a_fault(tmp_path, monkeypatch):
    def broken(path):
        raise KeyError(path.name)

    monkeypatch.setitem(PARSERS, "config", ("config.json", broken))
    assert fault_of("config", b"{}", tmp_path) == "KeyError: 'config.json'"
