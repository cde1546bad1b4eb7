"""What a backend says to the suite's inputs, by the names of the expectations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.golden.expectations import stretch
from conformance.golden.inputs import (
    FREE_RUNS,
    LONG_START,
    PREFIXES,
    STRETCHES,
    Arrays,
    decoder_inputs,
    free_prompt,
)
from soprano.backends import Backend, Output
from soprano.stft import istft

Given = Mapping[str, npt.NDArray[Any]]


def observe(backend: Backend, arrays: Given) -> Arrays:
    """Everything that has an expectation."""
    return {
        **observe_steps(backend, arrays),
        **observe_vocabulary(backend, arrays),
        **observe_prefixes(backend, arrays),
        **observe_long(backend, arrays),
        **observe_spoken(backend, arrays),
        **observe_spoken_sound(backend, arrays),
        **observe_decoder(backend, arrays),
    }


def read(backend: Backend, ids: npt.ArrayLike) -> Output:
    """One row of ids (T,) at once."""
    row = np.asarray(ids, np.int64)[None]
    return backend.prefill(row, np.array([row.shape[1]]))


def feed(backend: Backend, output: Output, ids: npt.NDArray[np.int64]) -> Iterator[Output]:
    """One id a row and step, from ids (B, T)."""
    for column in ids.T:
        output = backend.step(column, output.state)
        yield output


def observe_steps(backend: Backend, arrays: Given) -> Arrays:
    """All prompts in one ragged batch, then each teacher-forced id after them."""
    first = backend.prefill(arrays["prompt ids"], arrays["prompt lengths"])
    steps = list(feed(backend, first, arrays["step ids"]))
    return {
        **said_at_first(first),
        "step logits": np.stack([output.logits for output in steps], axis=1),
        "step hidden": np.stack([output.hidden for output in steps], axis=1),
    }


def observe_prefill(backend: Backend, arrays: Given) -> Arrays:
    """All prompts in one ragged batch."""
    return said_at_first(backend.prefill(arrays["prompt ids"], arrays["prompt lengths"]))


def said_at_first(output: Output) -> Arrays:
    return {"prefill logits": output.logits, "prefill hidden": output.hidden}


def observe_vocabulary(backend: Backend, arrays: Given) -> Arrays:
    """Every id read at once with others."""
    ids = arrays["vocabulary ids"]
    output = backend.prefill(ids, np.full(len(ids), ids.shape[1]))
    return {"vocabulary logits": output.logits, "vocabulary hidden": output.hidden}


def observe_prefixes(backend: Backend, arrays: Given) -> Arrays:
    """The long sequence read at once up to each of `PREFIXES`."""
    outputs = [read(backend, arrays["long ids"][:length]) for length in PREFIXES]
    return {
        "prefix logits": np.concatenate([output.logits for output in outputs]),
        "prefix hidden": np.concatenate([output.hidden for output in outputs]),
    }


def observe_long(backend: Backend, arrays: Given) -> Arrays:
    """The long sequence, its beginning read at once and the rest id by id."""
    ids = arrays["long ids"]
    output = read(backend, ids[:LONG_START])
    outputs = dict(enumerate(feed(backend, output, ids[None, LONG_START:]), start=LONG_START))
    return {
        f"long {start}-{stop} {kind}": np.concatenate(
            [getattr(outputs[place], kind) for place in stretch(start, stop, kind)]
        )
        for start, stop in STRETCHES
        for kind in ("logits", "hidden")
    }


def observe_spoken(backend: Backend, arrays: Given) -> Arrays:
    """The states that predict each id of the golden utterances."""
    found: Arrays = {}
    for name in FREE_RUNS:
        first = read(backend, free_prompt(arrays))
        outputs = [first, *feed(backend, first, arrays[f"{name} ids"][None, :-1])]
        found[f"{name} hidden"] = np.concatenate([output.hidden for output in outputs])
    return found


def observe_spoken_sound(backend: Backend, arrays: Given) -> Arrays:
    """The sound of the golden utterances, from golden states: apart, so as to blame the decoder."""
    return {f"{name} samples": sound(backend, arrays[f"{name} hidden"]) for name in FREE_RUNS}


def observe_decoder(backend: Backend, arrays: Given) -> Arrays:
    """The spectra of every utterance, joined, and the samples that follow from them."""
    samples = [sound(backend, hidden) for hidden in decoder_inputs(arrays)]
    return {**spectra(backend, arrays), "samples": np.concatenate(samples)}


def spectra(backend: Backend, arrays: Given) -> Arrays:
    """The spectra of every utterance, joined."""
    inputs = decoder_inputs(arrays)
    return {"spectrum": np.concatenate([spectrum(backend, hidden).ravel() for hidden in inputs])}


def spectrum(backend: Backend, hidden: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(F, T', 2) of one utterance (T, H)."""
    return backend.decode(hidden[None], np.array([len(hidden)]))[0]


def sound(backend: Backend, hidden: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Samples (N,) of one utterance (T, H), by the shared transform."""
    whole = istft(spectrum(backend, hidden)[None], backend.config.decoder.istft)[0]
    return whole.astype(np.float32, copy=False)
