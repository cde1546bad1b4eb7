"""Golden vectors of a model: inputs, float64 expectations, and the reference's own error.

They come from the golden pack that a model's identity names, or are evaluated on the spot from its
weights.
The noise floor is measured with the float32 PyTorch reference where it is installed, else taken
from the pack.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.oracle import DecoderOracle, LanguageModelOracle, inverse_transform
from soprano.backends import Backend
from soprano.config import ModelConfig, SamplingOptions
from soprano.generate import pad
from soprano.istft import istft, window
from soprano.model import ModelFolder
from soprano.sampling import distribution, draw, penalize, uniforms
from soprano.tokenizer import Tokenizer
from soprano.weights import identity

Arrays = dict[str, npt.NDArray[Any]]

_PACKAGE = Path(__file__).parent

SENTENCES = ("yes", "hello there", "one two three four")
STEPS = 24  # teacher-forced ids after each prompt
LONG = 720  # ids of the long sequence: beyond every table of 512 positions
LONG_CHECKED = (510, 511, 512, 513, 640, 700, 718)  # ids read before the expectation applies
TOKENS = (1, 2, 3, 5, 9, 16)  # utterance lengths of the decoder's inputs
FREE = 40  # ids of the free-running utterances
FREE_RUNS = {
    "greedy": SamplingOptions(temperature=0.0, top_p=1.0, repetition_penalty=1.2),
    "sampled": SamplingOptions(temperature=1.0, top_p=0.95, repetition_penalty=1.2),
}
SEED = 7


@dataclass(frozen=True)
class Floor:
    """The float32 reference's error against the float64 expectation."""

    rms: float
    worst: float


@dataclass(frozen=True)
class Vectors:
    arrays: Arrays
    floors: dict[str, Floor]
    source: str  # where expectations and floors came from, for reports


def fixtures_folder() -> Path:
    """The fixtures in the installed package, else in the checkout."""
    packed = _PACKAGE / "data"
    return packed if packed.is_dir() else _PACKAGE.parent / "fixtures"


def fixture_models() -> list[Path]:
    """The model folders that come with the suite, the trained voice included."""
    from soprano.model import embedded_models

    found = {
        path.parent.name: path.parent for path in fixtures_folder().glob("micro/*/config.json")
    }
    return [path for _, path in sorted({**embedded_models(), **found}.items())]


def model_identity(folder: ModelFolder) -> str | None:
    """The hash of the source weights: a bundle's manifest tells, else it is computed."""
    manifest = folder.path / "manifest.json"
    if manifest.is_file():
        return str(json.loads(manifest.read_text(encoding="utf-8"))["model"]["identity"])
    if not folder.has_weights:
        return None
    parts = {"lm": folder.language_model_weights(), "decoder": folder.decoder_weights()}
    return identity(
        (f"{part}:{name}", values) for part, own in parts.items() for name, values in own.items()
    )


def read_packs() -> dict[str, Path]:
    """The golden packs at hand by the identity of their models."""
    found = {}
    for path in sorted((fixtures_folder() / "golden").glob("*.safetensors")):
        found[read_metadata(path)["identity"]] = path
    return found


def read_metadata(path: Path) -> dict[str, str]:
    raw = path.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    metadata: dict[str, str] = header["__metadata__"]
    return metadata


def read_pack(path: Path) -> Vectors:
    from safetensors.numpy import load_file

    floors = json.loads(read_metadata(path)["floors"])
    return Vectors(
        load_file(path),
        {name: Floor(**floor) for name, floor in floors.items()},
        f"pack {path.name}",
    )


def find_vectors(model: Path, reference: Path | None = None) -> Vectors:
    """The vectors a model is judged by: of its own weights, or of the reference's.

    Raises:
        LookupError: there is neither a pack nor weights, or no noise floor can be had.
    """
    folder = ModelFolder.open(model)
    source = ModelFolder.open(reference) if reference else folder
    # Rounded weights are another model: they are judged by what they are, not by their source.
    rounded = folder.precision != "fp32" and source.has_weights
    pack = None if reference or rounded else read_packs().get(model_identity(folder) or "")
    if pack is None and not source.has_weights:
        raise LookupError(
            f"{model} carries no weights and no golden pack is of its model: "
            "name its checkpoint with --reference"
        )
    vectors = (
        read_pack(pack) if pack else Vectors(evaluate(source), {}, f"oracle on {source.path.name}")
    )
    if not source.has_weights:
        return vectors
    try:
        floors = measure_floors(source, vectors.arrays)
    except ImportError:
        if not vectors.floors:
            raise LookupError("the noise floor needs PyTorch: install the extra [torch]") from None
        return vectors
    return Vectors(vectors.arrays, floors, f"{vectors.source}, floor measured with PyTorch")


def measure_floors(folder: ModelFolder, arrays: Arrays) -> dict[str, Floor]:
    """The error of the PyTorch reference on every quantity that is judged by a floor."""
    from soprano.backends import open_backend

    backend = open_backend("pytorch", folder.path, folder.precision)
    observed = {**observe_language_model(backend, arrays), **observe_long(backend, arrays)}
    observed |= observe_decoder(backend, arrays)
    floors = {name: _floor(values, arrays[name]) for name, values in observed.items()}
    expected = arrays["spectrum"]
    floors["relative spectrum"] = _floor(
        relative(observed["spectrum"], expected), relative(expected, expected)
    )
    return floors


def relative(spectrum: npt.NDArray[Any], expected: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Complex values, flat, in units of the expected magnitude; silent bins are left out.

    Quiet bins count as much as loud ones here, whose errors hide theirs in absolute terms.
    """
    magnitude = np.hypot(*expected.reshape(-1, 2).astype(np.float64).T)[:, None]
    heard = magnitude[:, 0] > 0
    scaled = spectrum.reshape(-1, 2)[heard].astype(np.float64) / magnitude[heard]
    return scaled.ravel().astype(np.float32)


def _floor(actual: npt.NDArray[Any], expected: npt.NDArray[Any]) -> Floor:
    error = np.abs(actual.astype(np.float64) - expected)
    return Floor(float(np.sqrt(np.mean(error**2))), float(error.max()))


def evaluate(folder: ModelFolder) -> Arrays:
    """Inputs and float64 expectations (stored as float32) from a model's weights."""
    config = folder.config
    language_model = LanguageModelOracle(config.language_model, folder.language_model_weights())
    decoder = DecoderOracle(config.decoder, folder.decoder_weights())
    arrays = _inputs(config, Tokenizer(folder.path / "tokenizer.json"))
    arrays |= _expect_language_model(language_model, arrays)
    arrays |= _expect_decoder(decoder, config, arrays)
    for name, options in FREE_RUNS.items():
        arrays |= _expect_free_run(language_model, arrays, name, options)
    return {
        name: values.astype(np.float32) if values.dtype == np.float64 else values
        for name, values in arrays.items()
    }


def _inputs(config: ModelConfig, tokenizer: Tokenizer) -> Arrays:
    """Prompts of real sentences, then ids spread over the whole vocabulary."""
    generator = uniforms(SEED, 0)
    size = config.language_model.vocab_size

    def ids(count: int) -> list[int]:
        return [int(next(generator) * size) for _ in range(count)]

    prompts, lengths = pad([tokenizer.prompt(sentence) for sentence in SENTENCES])
    return {
        "prompt ids": prompts,
        "prompt lengths": lengths,
        "step ids": np.array([ids(STEPS) for _ in SENTENCES], np.int64),
        "long ids": np.array(ids(LONG), np.int64),
    }


def _expect_language_model(oracle: LanguageModelOracle, arrays: Arrays) -> Arrays:
    found: dict[str, list[npt.NDArray[Any]]] = {}
    for ids, length, steps in zip(
        arrays["prompt ids"], arrays["prompt lengths"], arrays["step ids"], strict=True
    ):
        outputs = oracle(np.concatenate([ids[:length], steps]))
        for name, values in zip(("logits", "hidden"), outputs, strict=True):
            found.setdefault(f"prefill {name}", []).append(values[length - 1])
            found.setdefault(f"step {name}", []).append(values[length:])
    expected = {name: np.stack(values) for name, values in found.items()}
    logits, hidden = oracle(arrays["long ids"])
    checked = np.array(LONG_CHECKED) - 1
    return {**expected, "long logits": logits[checked], "long hidden": hidden[checked]}


def _expect_decoder(oracle: DecoderOracle, config: ModelConfig, arrays: Arrays) -> Arrays:
    states = arrays["step hidden"].reshape(-1, arrays["step hidden"].shape[-1]).astype(np.float32)
    expected: Arrays = {"decoder hidden": states}
    spectra = [oracle(hidden) for hidden in decoder_inputs(expected)]
    numbers = config.decoder
    shape = window(numbers.istft)
    samples = [
        inverse_transform(spectrum, numbers.n_fft, numbers.hop_length, shape)
        for spectrum in spectra
    ]
    expected["spectrum"] = np.concatenate([spectrum.ravel() for spectrum in spectra])
    expected["samples"] = np.concatenate(samples)
    return expected


def decoder_inputs(arrays: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[np.float32]]:
    """Hidden states (T, H) for every T of `TOKENS`, each from another place."""
    states = arrays["decoder hidden"]
    return [states[i * 5 : i * 5 + tokens] for i, tokens in enumerate(TOKENS)]


def _expect_free_run(
    oracle: LanguageModelOracle, arrays: Arrays, name: str, options: SamplingOptions
) -> Arrays:
    """One free-running utterance with each id's margin: how far its decision was from another.

    Greedy: the gap between the two highest scores. Sampled: the distance of the draw to the
    nearer edge of its id's interval.
    """
    prompt = arrays["prompt ids"][1, : arrays["prompt lengths"][1]].tolist()
    draws, ids, margins = uniforms(SEED, 0), [], []
    for _ in range(FREE):
        logits, _ = oracle(prompt + ids)
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


def observe_language_model(backend: Backend, arrays: Arrays) -> Arrays:
    """A backend's answers to the prompts and to each teacher-forced id after them."""
    output = backend.prefill(arrays["prompt ids"], arrays["prompt lengths"])
    observed = {"prefill logits": output.logits, "prefill hidden": output.hidden}
    steps = []
    for ids in arrays["step ids"].T:
        output = backend.step(ids, output.state)
        steps.append(output)
    observed["step logits"] = np.stack([output.logits for output in steps], axis=1)
    observed["step hidden"] = np.stack([output.hidden for output in steps], axis=1)
    return observed


def observe_long(backend: Backend, arrays: Arrays) -> Arrays:
    """A backend's answers far behind position 512, read by one prefill and then by steps."""
    ids, first = arrays["long ids"], LONG_CHECKED[0]
    output = backend.prefill(ids[None, :first], np.array([first]))
    found = [output]
    for position in range(first, LONG_CHECKED[-1]):
        output = backend.step(ids[position : position + 1], output.state)
        if position + 1 in LONG_CHECKED:
            found.append(output)
    return {
        "long logits": np.concatenate([output.logits for output in found]),
        "long hidden": np.concatenate([output.hidden for output in found]),
    }


def observe_decoder(backend: Backend, arrays: Arrays) -> Arrays:
    """A backend's spectra of every length, joined, and the samples that follow from them."""
    spectra = [
        backend.decode(hidden[None], np.array([len(hidden)])) for hidden in decoder_inputs(arrays)
    ]
    samples = [istft(spectrum, backend.config.decoder.istft)[0] for spectrum in spectra]
    return {
        "spectrum": np.concatenate([spectrum.ravel() for spectrum in spectra]),
        "samples": np.concatenate(samples),
    }
