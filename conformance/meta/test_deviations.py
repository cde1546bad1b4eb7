"""Claims of deviations: what they cover, and how they are stated."""

from __future__ import annotations

import pytest

from conformance.judging.deviations import DeviationError, load_deviations
from conformance.ports.process import PortError, PortProcessError

CLAIM = """
[[deviation]]
requirement = {}
subject = "exec:*"
owner = "the port's maintainers"
reason = "it is so"
bound = {}
expires = 2099-12-31
"""


@pytest.fixture
def load(tmp_path):
    def load(*texts):
        path = tmp_path / "claims.toml"
        path.write_text("".join(texts), encoding="utf-8")
        return load_deviations(path)

    return load


def test_a_list_of_requirements_is_one_claim_for_each(load):
    claims = load(CLAIM.format('["TX-01", "TX-02"]', 2.0), CLAIM.format('"TX-01"', '"exact"'))
    assert [(c.requirement, c.bound) for c in claims] == [
        ("TX-01", 2.0), ("TX-02", 2.0), ("TX-01", "exact"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text", [CLAIM.format("[]", 2), CLAIM.format('["XX-01"]', 2), "deviation=3"]
)
def test_a_claim_without_a_known_requirement_is_rejected(load, text):
    with pytest.raises(DeviationError):
        load(text)


def test_an_exact_claim_covers_an_exception_of_the_port_but_not_its_end(load):
    exact, bounded = load(CLAIM.format('"TX-01"', '"exact"'), CLAIM.format('"TX-01"', 2.0))
    assert exact.covers_error(PortError("ValueError: no"))
    assert not bounded.covers_error(PortError("ValueError: no"))
    assert not exact.covers_error(PortProcessError("the process ended"))
    assert not exact.covers_error(AssertionError())
