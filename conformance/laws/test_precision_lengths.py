"""PR: the error of a lower precision class does not grow with the number of tokens."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from conformance.golden.inputs import LONG_START
from conformance.golden.observations import prefill_and_step, spectrum
from conformance.golden.rounded_packs import definition_of, find_source
from conformance.golden.utterance_ends import (
    decoder_ends,
    ends_pack,
    fitting,
    language_model_ends,
)
from conformance.judging import tolerances
from conformance.judging.vectors import Vectors
from conformance.options import option


@pytest.fixture
def ends(backend, judge, model, request):
    """The golden ends of utterances; `judge` comes first, as it skips what does not apply."""
    named = option(request.config, "reference")
    source = find_source(model, Path(named) if named else None)
    precision = backend.capabilities.precision
    pack = ends_pack(source.path, precision, definition_of(model, precision))
    return Vectors(pack, backend.config)


@pytest.fixture
def judge_growth(judge, ends):
    """Judges the errors at all lengths, relative to the error that the class makes there.

    At the shortest length the limit is that of the class; at the others it is also GROWTH times
    the relative error at the shortest. The mutant is the inverted output.
    """

    def judge_each(observed):
        allowed = {}
        for quantity, actual in observed.items():
            expected = ends.expected(quantity).astype(np.float64)
            judge.equal(f"{quantity}: shape", actual.shape, expected.shape)
            error, wrong = (rms(output - expected) for output in (actual, -actual))
            kind, floor = quantity.split()[-1], ends.floors[quantity].rms
            limit = ends.limit(quantity).rms / floor
            judge.below(
                f"{quantity}: error in errors of the class",
                error / floor,
                min(limit, allowed.get(kind, limit)),
                actual.size,
                wrong=wrong / floor,
            )
            allowed.setdefault(kind, tolerances.growth(error / floor))

    return judge_each


def rms(values):
    return float(np.sqrt(np.mean(values**2)))


@pytest.mark.requirement("PR-09")
def test_errors_of_logits_and_hidden_states_do_not_grow_with_the_number_of_tokens(
    backend, ends, judge_growth
):
    lengths, ids = fitting(backend.capabilities.max_length), ends.arrays["long ids"]
    outputs = prefill_and_step(
        backend, ids[:LONG_START], ids[LONG_START : LONG_START - 1 + max(lengths)]
    )
    logits, hidden = (
        np.concatenate([getattr(output, kind) for output in outputs])
        for kind in ("logits", "hidden")
    )
    judge_growth(language_model_ends(logits, hidden, lengths))


@pytest.mark.requirement("PR-10")
def test_errors_of_spectra_and_samples_do_not_grow_with_the_number_of_tokens(
    backend, stages, ends, judge_growth
):
    lengths, config = fitting(backend.capabilities.max_length), backend.config.decoder
    decode = partial(spectrum, stages) if stages.decode_audio is None else None
    states = ends.arrays["utterance hidden"]
    judge_growth(decoder_ends(decode, stages.vocode, config, states, lengths))
