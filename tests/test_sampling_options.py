"""SA: the defaults and ranges of `SamplingOptions`."""

import math

import pytest

from soprano.config import SamplingOptions


@pytest.mark.requirement("SA-20")
def test_default_sampling_options(judge):
    actual = {name: str(value) for name, value in vars(SamplingOptions()).items()}
    expected = {"temperature": "0.0", "top_p": "0.95", "top_k": "0", "repetition_penalty": "1.2"}
    judge.equal("defaults", list(actual.items()), list(expected.items()))


@pytest.mark.requirement("SA-21")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1), ("temperature", math.nan), ("temperature", math.inf),
        ("temperature", "1"), ("top_p", 0.0), ("top_p", -0.5), ("top_p", 1.01),
        ("top_p", math.nan), ("top_k", -1), ("top_k", 1.5), ("repetition_penalty", 0.0),
        ("repetition_penalty", -1.2), ("repetition_penalty", math.nan),
    ],
)  # fmt: skip
def test_options_outside_their_range_are_rejected(judge, name, value):
    message = judge.refuses(
        name,
        lambda: SamplingOptions(**{name: value}),
        ValueError,
        TypeError,
        accepts=lambda: SamplingOptions(**{name: 1}),
    )
    judge.equal("the message names the option", name in message, True)
