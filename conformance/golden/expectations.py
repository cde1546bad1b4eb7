"""What the float64 oracle says to the suite's inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.golden.inputs import (
    FREE,
    FREE_RUNS,
    HIDDEN_EVERY,
    LOGITS_EVERY,
    PREFIXES,
    SEED,
    STRETCHES,
    Arrays,
    decoder_inputs,
    free_prompt,
    language_model_inputs,
)
from conformance.oracle.istft import inverse_transform
from conformance.oracle.networks import DecoderOracle, LanguageModelOracle
from soprano.checkpoint.folder import ModelFolder
from soprano.config import DecoderConfig, SamplingOptions
from soprano.sampling import distribution, draw, penalize, uniforms
from soprano.stft import window
from soprano.tokenizer import Tokenizer

Float64 = npt.NDArray[np.float64]
LanguageModel = Callable[[npt.ArrayLike], tuple[Float64, Float64]]
Decoder = Callable[[npt.ArrayLike], Float64]


def evaluate(folder: ModelFolder) -> Arrays:
    """Inputs and float64 expectations (stored as float32) from a model's weights."""
    config = folder.config
    language_model = LanguageModelOracle(config.language_model, folder.language_model_weights())
    decoder = DecoderOracle(config.decoder, folder.decoder_weights())
    tokenizer = Tokenizer(folder.path / "tokenizer.json")
    arrays = language_model_inputs(config.language_model, tokenizer)
    for name, options in FREE_RUNS.items():
        arrays |= _free_run(language_model, arrays, name, options)
    arrays |= expect_language_model(language_model, arrays)
    # What is stored is what backends are given: the decoder's expectations start from there.
    arrays = _stored(arrays)
    return arrays | _stored(expect_decoder(decoder, config.decoder, arrays))


def _stored(arrays: Arrays) -> Arrays:
    return {
        name: values.astype(np.float32) if values.dtype == np.float64 else values
        for name, values in arrays.items()
    }


def expect_language_model(model: LanguageModel, arrays: Mapping[str, npt.NDArray[Any]]) -> Arrays:
    """Logits and hidden states for every input of `language_model_inputs`."""
    expected: Arrays = {}
    steps = [
        _split(model, ids[:length], after)
        for ids, length, after in zip(
            arrays["prompt ids"], arrays["prompt lengths"], arrays["step ids"], strict=True
        )
    ]
    for part, kind in enumerate(("logits", "hidden")):
        expected[f"prefill {kind}"] = np.stack([outputs[part][0] for outputs in steps])
        expected[f"step {kind}"] = np.stack([outputs[part][1:] for outputs in steps])
    rows = [model(ids) for ids in arrays["vocabulary ids"]]
    whole = model(arrays["long ids"])
    for part, kind in enumerate(("logits", "hidden")):
        expected[f"vocabulary {kind}"] = np.stack([outputs[part][-1] for outputs in rows])
        expected[f"prefix {kind}"] = whole[part][np.array(PREFIXES) - 1]
        for start, stop in STRETCHES:
            places = stretch(start, stop, kind)
            expected[f"long {start}-{stop} {kind}"] = whole[part][places]
    for name in FREE_RUNS:
        ids, prompt = arrays[f"{name} ids"], np.array(free_prompt(arrays))
        expected[f"{name} hidden"] = _split(model, prompt, ids[:-1])[1]
    return expected


def stretch(start: int, stop: int, kind: str) -> list[int]:
    """The positions of a stretch of the long sequence at which an output is compared."""
    return list(range(start, stop, LOGITS_EVERY if kind == "logits" else HIDDEN_EVERY))


def _split(
    model: LanguageModel, prompt: npt.NDArray[np.int64], after: npt.NDArray[np.int64]
) -> tuple[Float64, Float64]:
    """Outputs after the prompt and after each id that follows it."""
    logits, hidden = model(np.concatenate([prompt, after]))
    return logits[len(prompt) - 1 :], hidden[len(prompt) - 1 :]


def expect_decoder(
    decoder: Decoder, config: DecoderConfig, arrays: Mapping[str, npt.NDArray[Any]]
) -> Arrays:
    """The spectra of the decoder's inputs, joined, and the samples by their defining sums."""
    spectra = [decoder(hidden) for hidden in decoder_inputs(arrays)]
    spoken = {f"{name} samples": decoder(arrays[f"{name} hidden"]) for name in FREE_RUNS}

    def samples(spectrum: Float64) -> Float64:
        shape = window(config.istft)
        return inverse_transform(spectrum, config.n_fft, config.hop_length, shape)

    return {
        "spectrum": np.concatenate([spectrum.ravel() for spectrum in spectra]),
        "samples": np.concatenate([samples(spectrum) for spectrum in spectra]),
        **{name: samples(spectrum) for name, spectrum in spoken.items()},
    }


def _free_run(
    model: LanguageModel,
    arrays: Mapping[str, npt.NDArray[Any]],
    name: str,
    options: SamplingOptions,
) -> Arrays:
    """One free-running utterance with each id's margin: how far its decision was from another.

    Greedy: the gap between the two highest scores. Sampled: the distance of the draw to the
    nearer edge of its id's interval.
    """
    prompt = free_prompt(arrays)
    draws, ids, margins = uniforms(SEED, 0), [], []
    for _ in range(FREE):
        logits, _ = model(prompt + ids)
        scores = penalize(logits[-1], prompt + ids, options.repetition_penalty)
        if options.temperature == 0:
            second, first = np.sort(scores)[-2:]
            chosen, margin = int(np.argmax(scores)), first - second
        else:
            uniform = next(draws)
            probabilities = distribution(scores, options)
            chosen = draw(probabilities, uniform)
            upper = float(np.cumsum(probabilities)[chosen])
            margin = min(upper - uniform, uniform - (upper - probabilities[chosen]))
        ids.append(chosen)
        margins.append(float(margin))
    return {f"{name} ids": np.array(ids, np.int64), f"{name} margins": np.array(margins)}
