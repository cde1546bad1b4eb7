"""The last tokens of utterances of several lengths: an error may grow with the number of tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.golden.inputs import LONG_START, Arrays
from conformance.golden.packs import Pack, find_pack, noise_floor
from conformance.golden.rounded_packs import of_class, rounded_networks
from conformance.oracle.istft import inverse_stft
from conformance.oracle.precision_classes import Precision
from soprano.checkpoint.folder import ModelFolder
from soprano.config import DecoderConfig

LENGTHS = (16, 64, 256, 512)  # tokens of an utterance; its prompt has LONG_START ids
END = 16  # tokens that are judged

Array = npt.NDArray[Any]


def fitting(max_length: int | None) -> list[int]:
    """The lengths of utterances that a backend's declared maximum admits."""
    return [n for n in LENGTHS if max_length is None or LONG_START + n <= max_length]


def language_model_ends(logits: Array, hidden: Array, lengths: Iterable[int]) -> Arrays:
    """The outputs (N, V) and (N, H), of all tokens, that predict the last ones of each length."""
    return {
        f"{tokens} tokens {kind}": output[tokens - END : tokens]
        for tokens in lengths
        for kind, output in (("logits", logits), ("hidden", hidden))
    }


def decoder_ends(
    decode: Callable[[Array], Array] | None,
    vocode: Callable[[Array], Array],
    config: DecoderConfig,
    states: Array,
    lengths: Iterable[int],
) -> Arrays:
    """The last frames, if there is a spectrum, and samples of the first N hidden states (N, H)."""
    ends: Arrays = {}
    for tokens in lengths:
        if decode:
            spectrum = decode(states[:tokens])  # (F, T', 2)
            ends[f"{tokens} tokens spectrum"] = spectrum[:, -config.frames(END) :]
        ends[f"{tokens} tokens samples"] = vocode(states[:tokens])[-config.samples(END) :]
    return ends


@cache
def ends_pack(source: Path, precision: str, definition: Precision) -> Pack:
    """The source's expectations, with the error of the class's definition as the noise floor.

    The hidden states "utterance hidden" (N, H) are the inputs of the decoder.
    """
    folder, pack = ModelFolder.open(source), find_pack(source)
    ids, config = pack.arrays["long ids"], folder.config.decoder
    exact, defined = pack.networks(), rounded_networks(folder, definition)
    read = ids[: LONG_START - 1 + max(LENGTHS)]
    logits, hidden = (output[LONG_START - 1 :] for output in exact.language_model(read))
    states = hidden.astype(np.float32)
    rounded = (output[LONG_START - 1 :] for output in defined.language_model(read))

    def decoded(decode: Callable[[Array], Array]) -> Arrays:
        known = {n: decode(states[:n]) for n in LENGTHS}
        return decoder_ends(
            lambda hidden: known[len(hidden)],
            lambda hidden: inverse_stft(known[len(hidden)], config.istft),
            config,
            states,
            LENGTHS,
        )

    expected = language_model_ends(logits, hidden, LENGTHS) | decoded(exact.decoder)
    outputs = language_model_ends(*rounded, LENGTHS) | decoded(defined.decoder)
    floors = {quantity: noise_floor(outputs[quantity], expected[quantity]) for quantity in expected}
    arrays = {"long ids": ids, "utterance hidden": states, **expected}
    return replace(pack, arrays=arrays, floors=of_class(floors, precision))
