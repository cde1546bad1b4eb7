"""Runs a backend on the golden inputs; results have the names of the expectations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from soprano.stages import Stages

Given = Mapping[str, npt.NDArray[Any]]


def observe(stages: Stages, arrays: Given) -> Arrays:
    """Every quantity that has an expectation."""
    backend = stages.language_model
    return {
        **observe_steps(backend, arrays),
        **observe_vocabulary(backend, arrays),
        **observe_prefixes(backend, arrays),
        **observe_long(backend, arrays),
        **observe_free_runs(backend, arrays),
        **observe_free_run_samples(stages, arrays),
        **observe_decoder(stages, arrays),
    }


def prefill_one(backend: Backend, ids: npt.ArrayLike) -> Output:
    """Prefill of one sequence of ids (T,)."""
    row = np.asarray(ids, np.int64)[None]
    return backend.prefill(row, np.array([row.shape[1]]))


def teacher_force(backend: Backend, output: Output, ids: npt.ArrayLike) -> Iterator[Output]:
    """The output of each decode step on given ids (B, T), after a prefill's output."""
    for column in np.asarray(ids, np.int64).T:
        output = backend.step(column, output.state)
        yield output


def prefill_and_step(backend: Backend, prompt: npt.ArrayLike, ids: npt.ArrayLike) -> list[Output]:
    """The N + 1 outputs after a prompt and after each of the N ids that follow it."""
    first = prefill_one(backend, prompt)
    return [first, *teacher_force(backend, first, np.asarray(ids, np.int64)[None])]


def hidden_states(
    backend: Backend, prompt: npt.ArrayLike, ids: npt.ArrayLike
) -> npt.NDArray[np.float32]:
    """Hidden states (N + 1, H) after a prompt and after each of the N ids that follow it."""
    return np.concatenate([output.hidden for output in prefill_and_step(backend, prompt, ids)])


def observe_steps(backend: Backend, arrays: Given) -> Arrays:
    """All prompts in one ragged batch, then each teacher-forced id after them."""
    first = backend.prefill(arrays["prompt ids"], arrays["prompt lengths"])
    steps = list(teacher_force(backend, first, arrays["step ids"]))
    return {
        **_prefill_outputs(first),
        "step logits": np.stack([output.logits for output in steps], axis=1),
        "step hidden": np.stack([output.hidden for output in steps], axis=1),
    }


def observe_prefill(backend: Backend, arrays: Given) -> Arrays:
    """All prompts in one ragged batch."""
    return _prefill_outputs(backend.prefill(arrays["prompt ids"], arrays["prompt lengths"]))


def _prefill_outputs(output: Output) -> Arrays:
    return {"prefill logits": output.logits, "prefill hidden": output.hidden}


def observe_vocabulary(backend: Backend, arrays: Given) -> Arrays:
    """Every id of the vocabulary in prompts of a batch."""
    ids = arrays["vocabulary ids"]
    output = backend.prefill(ids, np.full(len(ids), ids.shape[1]))
    return {"vocabulary logits": output.logits, "vocabulary hidden": output.hidden}


def observe_prefixes(backend: Backend, arrays: Given) -> Arrays:
    """Prefill of the long sequence up to each length of `PREFIXES`."""
    lengths = [length for length in PREFIXES if length <= len(arrays["long ids"])]
    output = prefill_each(backend, [arrays["long ids"][:length] for length in lengths])
    return {"prefix logits": output.logits, "prefix hidden": output.hidden}


def prefill_each(backend: Backend, prompts: Iterable[npt.ArrayLike]) -> Output:
    """The outputs of prompts, each read by itself, as those of one batch without a state."""
    return batch_of([prefill_one(backend, ids) for ids in prompts])


def batch_of(outputs: Sequence[Output]) -> Output:
    """The outputs of several calls as those of one batch without a state."""
    logits = np.concatenate([output.logits for output in outputs])
    return Output(logits, np.concatenate([output.hidden for output in outputs]), None)


def observe_long(backend: Backend, arrays: Given) -> Arrays:
    """Prefill of the beginning of the long sequence, then one decode step per id."""
    ids = arrays["long ids"]
    outputs = step_through(backend, ids)
    observed: Arrays = {}
    for start, stop in STRETCHES:
        for kind in ("logits", "hidden"):
            kept = [place - LONG_START for place in stretch(start, stop, kind) if place < len(ids)]
            if kept:
                observed[f"long {start}-{stop} {kind}"] = getattr(outputs, kind)[kept]
    return observed


def step_through(backend: Backend, ids: npt.NDArray[np.int64]) -> Output:
    """The output after each id from `LONG_START` on: logits (N, V), hidden states (N, H)."""
    first = prefill_one(backend, ids[:LONG_START])
    return batch_of(list(teacher_force(backend, first, ids[None, LONG_START:])))


def observe_free_runs(backend: Backend, arrays: Given) -> Arrays:
    """The hidden states that predict each id of the golden utterances."""
    prompt = free_prompt(arrays)
    return {
        f"{name} hidden": hidden_states(backend, prompt, arrays[f"{name} ids"][:-1])
        for name in FREE_RUNS
    }


def observe_free_run_samples(stages: Stages, arrays: Given) -> Arrays:
    """The samples of the golden utterances, from golden hidden states."""
    return {f"{name} samples": stages.vocode(arrays[f"{name} hidden"]) for name in FREE_RUNS}


def observe_decoder(stages: Stages, arrays: Given) -> Arrays:
    """The spectra of every decoder input, joined, if the decoder gives any, and their samples."""
    spectra = observe_spectra(stages, arrays) if stages.decode_audio is None else {}
    samples = [stages.vocode(hidden) for hidden in decoder_inputs(arrays)]
    return {**spectra, "samples": np.concatenate(samples)}


def observe_spectra(stages: Stages, arrays: Given) -> Arrays:
    """The spectra of every decoder input, joined."""
    inputs = decoder_inputs(arrays)
    return {"spectrum": np.concatenate([spectrum(stages, hidden).ravel() for hidden in inputs])}


def spectrum(stages: Stages, hidden: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The spectrum (F, T', 2) of one utterance (T, H)."""
    return stages.decode(hidden[None], np.array([len(hidden)]))[0]
