"""Vector packs: inputs and expected outputs of each stage as files, for ports without Python.

A pack holds one folder per case and a manifest. A port writes its outputs in folders of the same
names; `check` judges them by the limits that the manifest states.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.documents import read_document
from conformance.golden.inputs import (
    FREE_RUNS,
    PREFIXES,
    TOKENS,
    decoder_inputs,
    free_prompt,
    free_uniforms,
)
from conformance.golden.packs import find_pack, weights_digest
from conformance.judging import tolerances
from conformance.judging.compare import Limit
from conformance.judging.divergence import judge_ids
from conformance.judging.judge import Judge, MistrustedError
from conformance.judging.records import TestRecord
from conformance.judging.vectors import Vectors
from conformance.oracle.istft import inverse_stft
from conformance.oracle.sampler import decide
from conformance.oracle.sampler_conventions import sampler_questions
from conformance.report.evidence import Evidence
from soprano.checkpoint.contents import parsing
from soprano.checkpoint.folder import ModelFolder, locate
from soprano.errors import brief, shown
from soprano.export.replace import replacing, writing
from soprano.regular_files import open_regular
from soprano.text import normalize, split_sentences
from soprano.tokenizer import Tokenizer

SCHEMA_VERSION = 1
_NAME = {"type": "string", "pattern": r"^[\w-]+$"}
_CASE = {
    "name": _NAME,
    "requirement": {"type": "string"},
    "outputs": {
        "type": "object",
        "additionalProperties": {"type": "object", "required": ["limit"]},
    },
}
_MANIFEST = {
    "required": ["schema_version", "model", "cases", "files"],
    "properties": {
        "schema_version": {"const": SCHEMA_VERSION},
        "model": {"type": "object", "required": ["name"], "properties": {"name": _NAME}},
        "cases": {
            "type": "array",
            "items": {"type": "object", "required": [*_CASE], "properties": _CASE},
        },
        "files": {
            "type": "object",
            "additionalProperties": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        },
    },
}
TEXTS = (
    "Hello there!", "It costs $3.50, not 4.", "Dr. Smith left at 8:15.", "In 1999.", "50% of 1",
    "The quick brown fox jumps over the lazy dog. It did so twice, on a Monday. Nobody saw it.",
)  # fmt: skip
SENTENCES = ("yes", "hello there.", "the quick brown fox", "what?  no!", "it is 9, not 10.")
Array = npt.NDArray[Any]
Value = Any  # an array, or strings and numbers in lists


@dataclass(frozen=True)
class Output:
    """One expected output of a case; `limit` is None where it must be equal.

    A list of arrays is written as NAME_0, NAME_1 and so on, and judged as one.
    """

    value: Value
    limit: Limit | None = None
    excused: float | None = None  # of generated ids: the largest margin of a tie


@dataclass(frozen=True)
class Case:
    """A call of one stage: its inputs by name, and what it returns."""

    name: str
    requirement: str
    inputs: dict[str, Value]
    outputs: dict[str, Output]
    settings: dict[str, Any] = field(default_factory=dict)  # numbers that are the same for all


def cases_of(model: Path, reference: Path | None = None) -> Iterator[Case]:
    """The cases of a model, in the order of the pipeline."""
    folder = ModelFolder.open(model)
    vectors = Vectors(find_pack(model, reference), folder.config)
    yield from _text_cases(folder)
    yield from _sampler_cases(folder)
    yield from _language_model_cases(vectors)
    yield from _decoder_cases(vectors)
    yield from _utterance_cases(vectors)


def _text_cases(folder: ModelFolder) -> Iterator[Case]:
    normalized = [normalize(text) for text in TEXTS]
    sentences = [split_sentences(text) for text in normalized]
    tokenizer = Tokenizer(folder.path / "tokenizer.json")
    prompts = [tokenizer.prompt(sentence) for sentence in SENTENCES]
    yield Case("normalize", "TX-01", {"texts": list(TEXTS)}, {"normalized": Output(normalized)})
    yield Case("split", "TX-38", {"texts": normalized}, {"sentences": Output(sentences)})
    yield Case("tokenize", "TK-03", {"sentences": list(SENTENCES)}, {"ids": Output(prompts)})


def _sampler_cases(folder: ModelFolder) -> Iterator[Case]:
    questions = sampler_questions(folder.config.language_model.vocab_size)
    ids = [decide(q.logits, q.history, q.options, q.uniform).id for q in questions]
    inputs = {
        "logits": np.stack([q.logits for q in questions]),
        "histories": [list(map(int, q.history)) for q in questions],
        "options": [asdict(q.options) for q in questions],
        "uniforms": [q.uniform for q in questions],
    }
    yield Case("sample", "SA-02", inputs, {"ids": Output([int(i) for i in ids])})


def _language_model_cases(vectors: Vectors) -> Iterator[Case]:
    arrays = vectors.arrays
    prompts = {"ids": arrays["prompt ids"], "lengths": arrays["prompt lengths"]}
    long = {"ids": arrays["long ids"], "lengths": np.array(PREFIXES)}
    for name, requirement, inputs in (
        ("prefill", "LM-01", prompts),
        ("step", "LM-02", prompts | {"step_ids": arrays["step ids"]}),
        ("prefix", "LM-03", long),
    ):
        outputs = {
            kind: Output(arrays[f"{name} {kind}"], vectors.limit(f"{name} {kind}"))
            for kind in ("logits", "hidden")
        }
        yield Case(name, requirement, inputs, outputs)


def _decoder_cases(vectors: Vectors) -> Iterator[Case]:
    config, arrays = vectors.config.decoder, vectors.arrays
    hidden = decoder_inputs(arrays)
    shapes = [(config.bins, config.frames(tokens), 2) for tokens in TOKENS]
    spectra = _cut(arrays["spectrum"], shapes)
    samples = _cut(arrays["samples"], [(config.samples(tokens),) for tokens in TOKENS])
    inputs = {f"hidden_{i}": states for i, states in enumerate(hidden)}
    for name, requirement, quantity, values in (
        ("decode", "DE-01", "spectrum", spectra),
        ("decode_audio", "SY-01", "samples", samples),
    ):
        outputs = {quantity: Output(values, vectors.limit(quantity))}
        yield Case(name, requirement, inputs, outputs, {"tokens": list(TOKENS)})
    for i, spectrum in enumerate(spectra):
        if len(samples[i]):
            expected = inverse_stft(spectrum, config.istft)
            limit = tolerances.istft(expected, config.istft)
            output = {"samples": Output(expected.astype(np.float32), limit)}
            settings = asdict(config.istft)
            yield Case(f"istft-{i}", "IS-01", {"spectrum": spectrum}, output, settings)


def _cut(joined: Array, shapes: list[tuple[int, ...]]) -> list[Array]:
    stops = np.cumsum([int(np.prod(shape)) for shape in shapes])
    parts = np.split(joined, stops[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def _utterance_cases(vectors: Vectors) -> Iterator[Case]:
    arrays, stop = vectors.arrays, vectors.config.language_model.eos_token_id
    for name, options in FREE_RUNS.items():
        ids = arrays[f"{name} ids"].tolist()
        ids = ids[: ids.index(stop) + 1] if stop in ids else ids
        excused = tolerances.tie_margin(vectors.limit("step logits"), options.temperature)
        inputs = {"prompt": free_prompt(arrays), "uniforms": free_uniforms()}
        outputs = {
            "ids": Output(ids, excused=excused),
            "margins": Output(arrays[f"{name} margins"][: len(ids)]),
        }
        settings = asdict(options) | {"max_new_tokens": len(free_uniforms())}
        yield Case(f"generate-{name}", "SY-03", inputs, outputs, settings)


def export(model: Path, target: Path, reference: Path | None = None) -> dict[str, Any]:
    """Write a pack; returns its manifest.

    Raises:
        FileExistsError: the folder exists and is not empty.
    """

    def require_empty() -> None:
        if target.exists() and any(target.iterdir()):
            raise FileExistsError(f"{target} is not empty")

    require_empty()
    with replacing(target, require_empty) as folder:
        return _write_pack(model, folder, reference)


def _write_pack(model: Path, target: Path, reference: Path | None) -> dict[str, Any]:
    folder = ModelFolder.open(model)
    entries = []
    for case in cases_of(model, reference):
        _write_values(target / case.name, "inputs", case.inputs)
        expected = {name: output.value for name, output in case.outputs.items()}
        _write_values(target / case.name, "expected", _numbered(expected))
        entries.append(
            {
                "name": case.name,
                "requirement": case.requirement,
                "settings": case.settings,
                "inputs": {name: _form(value) for name, value in case.inputs.items()},
                "outputs": {
                    name: _form(output.value)
                    | {"limit": asdict(output.limit) if output.limit else None}
                    | ({"excused": output.excused} if output.excused is not None else {})
                    for name, output in case.outputs.items()
                    if name != "margins"
                },
            }
        )
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "model": {"name": locate(model).name, "identity": weights_digest(folder)},
        "cases": entries,
        "files": {
            str(path.relative_to(target)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(target.rglob("*"))
            if path.is_file()
        },
    }
    text = json.dumps(manifest, indent=1) + "\n"
    (target / "manifest.json").write_text(text, encoding="utf-8")
    return manifest


def _numbered(values: dict[str, Value]) -> dict[str, Value]:
    """With the arrays of a list under names of their own."""
    found: dict[str, Value] = {}
    for name, value in values.items():
        if isinstance(value, list) and value and _is_array(value[0]):
            found |= {f"{name}_{i}": array for i, array in enumerate(value)}
        else:
            found[name] = value
    return found


def _form(value: Value) -> dict[str, Any]:
    if isinstance(value, list) and value and _is_array(value[0]):
        return {"arrays": [_form(array) for array in value]}
    if isinstance(value, np.ndarray):
        return {"dtype": value.dtype.name, "shape": list(value.shape)}
    return {"dtype": "json"}


def _write_values(folder: Path, kind: str, values: dict[str, Value]) -> None:
    """Arrays as one safetensors file and as .npy files, everything else as JSON."""
    from safetensors.numpy import save_file

    (folder / kind).mkdir(parents=True, exist_ok=True)
    arrays = {name: np.ascontiguousarray(v) for name, v in values.items() if _is_array(v)}
    if arrays:
        with writing(folder / f"{kind}.safetensors") as path:
            save_file(arrays, path)
    for name, array in arrays.items():
        np.save(folder / kind / f"{name}.npy", array)
    if rest := {name: v for name, v in values.items() if not _is_array(v)}:
        text = json.dumps(rest, ensure_ascii=False) + "\n"
        (folder / f"{kind}.json").write_text(text, encoding="utf-8")


def _is_array(value: Value) -> bool:
    return isinstance(value, np.ndarray)


def _read_values(folder: Path, kind: str) -> dict[str, Value]:
    """What `_write_values` wrote, or a port: any of the forms is enough."""
    from safetensors.numpy import load_file

    values: dict[str, Value] = {}
    if (path := folder / f"{kind}.json").exists():
        values |= read_document(path)
    for path in sorted((folder / kind).glob("*.npy")):
        with parsing("a NumPy array", path), open_regular(path) as file:
            values[path.stem] = np.load(file, allow_pickle=False)
    if (path := folder / f"{kind}.safetensors").exists():
        with parsing("a safetensors file", path), open_regular(path):
            values |= load_file(path)
    return values


def check(pack: Path, outputs: Path, subject: str) -> Evidence:
    """Judge the files that a port wrote.

    Raises:
        ValueError: the pack is damaged, or the port wrote no output of any case.
    """
    manifest = read_document(pack / "manifest.json", _MANIFEST)
    for name, digest in manifest["files"].items():
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise ValueError(f"{pack}/manifest.json: {shown(name)} is no file of the pack")
        with parsing("a file of a pack", pack / name), open_regular(pack / name) as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != digest:
            raise ValueError(f"{pack}: {name} has changed since it was written")
    evidence = Evidence()
    for entry in manifest["cases"]:
        for name, stated in entry["outputs"].items():
            record = TestRecord(f"{entry['name']}::{name}", (entry["requirement"],), subject)
            record.golden = f"vector pack of {manifest['model']['name']}"
            record.repeat = f"python -m conformance vectors check {pack} --outputs {outputs}"
            _judge(record, pack / entry["name"], outputs / entry["name"], name, stated)
            evidence.finish(record)
    if all(record.verdict == "not-applicable" for record in evidence.records.values()):
        raise ValueError(f"{outputs} contains no outputs of {pack}")
    return evidence


def _judge(record: TestRecord, case: Path, written: Path, name: str, stated: Any) -> None:
    """The verdict on one output, in its record."""
    try:
        outputs, expected = _read_values(written, "outputs"), _read_values(case, "expected")
        names = [f"{name}_{i}" for i in range(len(stated["arrays"]))] if "arrays" in stated else []
        if not {name, *names} & set(outputs):
            record.verdict, record.message = "not-applicable", "the port wrote no such output"
            return
        if names:
            outputs[name] = _joined(outputs, expected, names)
            expected[name] = np.concatenate([expected[each].ravel() for each in names])
        _compare(record, expected, name, outputs[name], stated)
    except MistrustedError as error:
        record.verdict, record.message = "mistrusted", str(error)
    except AssertionError as error:
        record.verdict, record.message = "fail", str(error)
    except Exception as error:  # whatever the content of a port's files leads to
        record.verdict, record.message = "error", f"{written.name}: {brief(error)}"
    else:
        record.verdict = "tie" if record.ties else "pass"


def _joined(outputs: dict[str, Value], expected: dict[str, Value], names: list[str]) -> Array:
    """The elements of several outputs."""
    for name in names:
        shape = np.shape(outputs.get(name, 0))
        if shape != expected[name].shape:
            raise AssertionError(f"{name}: shape {shape}, wanted {expected[name].shape}")
    return np.concatenate([np.asarray(outputs[name]).ravel() for name in names])


def _compare(
    record: TestRecord, expected: dict[str, Value], name: str, actual: Value, stated: Any
) -> None:
    judge, wanted = Judge(record), expected[name]
    if stated["limit"]:
        judge.close(name, actual, wanted, Limit(**stated["limit"]))
    elif "excused" in stated:
        margins = expected["margins"]
        margin: Callable[[int], float] = lambda i: float(margins[i])  # noqa: E731
        wrong = float(np.median(margins))
        tied = judge_ids(judge, list(actual), wanted, margin, stated["excused"], wrong=wrong)
        judge.count_ids(len(actual), tied=tied)
    else:
        judge.equal(name, actual.tolist() if isinstance(actual, np.ndarray) else actual, wanted)
