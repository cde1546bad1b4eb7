"""The float64 oracle's outputs for the inputs of the suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.golden.inputs import (
    FREE_RUNS,
    HIDDEN_EVERY,
    LOGITS_EVERY,
    PREFIXES,
    STRETCHES,
    Arrays,
    decoder_inputs,
    free_prompt,
    free_uniforms,
    language_model_inputs,
)
from conformance.oracle.istft import inverse_stft
from conformance.oracle.networks import DecoderOracle, LanguageModelOracle
from conformance.oracle.sampler import decide
from soprano.checkpoint.folder import ModelFolder
from soprano.config import DecoderConfig, SamplingOptions
from soprano.tokenizer import Tokenizer

Float64 = npt.NDArray[np.float64]
LanguageModel = Callable[[npt.ArrayLike], tuple[Float64, Float64]]
Decoder = Callable[[npt.ArrayLike], Float64]


@dataclass(frozen=True, eq=False)
class Networks:
    """The oracle's two networks on the weights of one model."""

    language_model: LanguageModel
    decoder: Decoder

    @classmethod
    def of(cls, folder: ModelFolder) -> Networks:
        config = folder.config
        return cls(
            LanguageModelOracle(config.language_model, folder.language_model_weights()),
            DecoderOracle(config.decoder, folder.decoder_weights()),
        )


@lru_cache(maxsize=1)
def every_position(networks: Networks, ids: tuple[int, ...]) -> tuple[Float64, Float64]:
    """Logits (T, V) and hidden states (T, H) of a long sequence, which several tests use."""
    return networks.language_model(ids)


def evaluate(folder: ModelFolder) -> Arrays:
    """Inputs and expectations, computed in float64 and rounded to float32, of one model."""
    config, networks = folder.config, Networks.of(folder)
    language_model, decoder = networks.language_model, networks.decoder
    tokenizer = Tokenizer(folder.path / "tokenizer.json")
    arrays = language_model_inputs(config.language_model, tokenizer)
    for name, options in FREE_RUNS.items():
        arrays |= _free_run(language_model, arrays, name, options)
    arrays |= expect_language_model(language_model, arrays)
    # The decoder's inputs are the rounded hidden states, because backends receive those.
    arrays = _rounded(arrays)
    return arrays | _rounded(expect_decoder(decoder, config.decoder, arrays))


def _rounded(arrays: Arrays) -> Arrays:
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
            expected[f"long {start}-{stop} {kind}"] = whole[part][stretch(start, stop, kind)]
    for name in FREE_RUNS:
        ids, prompt = arrays[f"{name} ids"], np.array(free_prompt(arrays))
        expected[f"{name} hidden"] = _split(model, prompt, ids[:-1])[1]
    return expected


def stretch(start: int, stop: int, kind: str) -> list[int]:
    """The compared positions of a stretch of the long sequence."""
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
    """The spectra of the decoder's inputs, joined, their samples, and those of the free runs."""
    spectra = [decoder(hidden) for hidden in decoder_inputs(arrays)]
    free_runs = {f"{name} samples": decoder(arrays[f"{name} hidden"]) for name in FREE_RUNS}
    return {
        "spectrum": np.concatenate([spectrum.ravel() for spectrum in spectra]),
        "samples": np.concatenate([inverse_stft(spectrum, config.istft) for spectrum in spectra]),
        **{name: inverse_stft(spectrum, config.istft) for name, spectrum in free_runs.items()},
    }


def expect_beginnings(
    decoder: Decoder, config: DecoderConfig, hidden: npt.NDArray[Any], counts: Sequence[int]
) -> Iterator[Float64]:
    """The spectrum of the first n hidden states for each n of `counts`, at least 1.

    Only the frames in reach of the last state differ from those of a longer utterance.
    """
    whole = decoder(hidden[: max(counts)])
    reach = -(-config.receptive_frames // config.frames_per_token)  # tokens
    for count in counts:
        kept = max(count - 1 - reach, 0)
        first = max(kept - reach, 0)
        tail = decoder(hidden[first:count])[:, (kept - first) * config.frames_per_token :]
        yield np.concatenate([whole[:, : kept * config.frames_per_token], tail], axis=1)


def _free_run(
    model: LanguageModel,
    arrays: Mapping[str, npt.NDArray[Any]],
    name: str,
    options: SamplingOptions,
) -> Arrays:
    """One free-running utterance: its ids, and the margin of each decision."""
    prompt = free_prompt(arrays)
    ids: list[int] = []
    margins: list[float] = []
    for uniform in free_uniforms():
        logits, _ = model(prompt + ids)
        decision = decide(logits[-1], prompt + ids, options, uniform)
        ids.append(decision.id)
        margins.append(decision.margin)
    return {f"{name} ids": np.array(ids, np.int64), f"{name} margins": np.array(margins)}
