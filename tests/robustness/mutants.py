"""Mutated models on every backend: no crash, hang or traceback, and no other audio of a bundle."""

from __future__ import annotations

import hashlib
import importlib
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from conformance.golden.packs import fixture_models
from soprano.errors import SopranoError

from .children import Outcome, call
from .mutations import mutate_folder

EXPECTED = (SopranoError, ValueError)
LONGEST = 300  # characters of a message

# Name, backend and precision of the models that are mutated.
KINDS = {
    "checkpoint": ("onnx_cpu", "fp32"),
    "checkpoint on pytorch": ("pytorch", "fp32"),
    "checkpoint on openvino": ("openvino_cpu", "fp32"),
    "pth": ("pytorch", "fp32"),
    "onnx fp32": ("onnx_cpu", "fp32"),
    "onnx int8": ("onnx_cpu", "int8"),
    "openvino": ("openvino_cpu", "fp32"),
    "onnx without a manifest": ("onnx_cpu", "fp32"),
}


def make_models(folder: Path) -> dict[str, Path]:
    """One model folder of each kind."""
    from soprano.export.bundle import export_bundle

    source = next(path for path in fixture_models() if path.name == "v11")
    models = {name: source for name in KINDS if name.startswith("checkpoint")}
    models["pth"] = _pickled(source, folder / "pth")
    for name, to, precision in (
        ("onnx fp32", "onnx", "fp32"),
        ("onnx int8", "onnx", "int8"),
        ("openvino", "openvino", "fp32"),
    ):
        models[name] = export_bundle(source, folder / name, to=to, precision=precision)
    bare = folder / "bare"
    models["onnx without a manifest"] = bare
    shutil.copytree(models["onnx fp32"], bare, ignore=shutil.ignore_patterns("manifest.json"))
    return models


def _pickled(source: Path, folder: Path) -> Path:
    import torch
    from safetensors.torch import load_file

    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("decoder.*"))
    torch.save(load_file(source / "decoder.safetensors"), folder / "decoder.pth")
    return folder


def synthesize(folder: Path, backend: str, precision: str) -> str:
    """The digest of the samples of a short utterance."""
    from soprano import SopranoTTS

    voice = SopranoTTS(folder, backend, precision, threads=1)
    audio = voice.infer("Hi there.", max_new_tokens=4, temperature=0.0)
    return hashlib.sha256(audio.samples.tobytes()).hexdigest()


def in_child(kind: str, folder: Path) -> Outcome:
    backend, precision = KINDS[kind]
    return call(lambda: synthesize(folder, backend, precision), EXPECTED)


def faults_of(kind: str, outcome: Outcome, folder: Path, expected: str) -> Iterator[str]:
    """What is wrong with the outcome of a mutated model."""
    if outcome.kind in ("crash", "hang", "traceback"):
        yield f"{outcome.kind}: {outcome.text} {outcome.stderr[-300:]}"
    elif outcome.kind == "rejected":
        if len(outcome.text) > LONGEST or len(outcome.text.splitlines()) != 1:
            yield f"message of another form: {outcome.text!r}"
        if str(folder) not in outcome.text:
            yield f"message without the folder: {outcome.text!r}"
    elif (folder / "manifest.json").exists() and outcome.text != expected:
        yield "other audio"
    if "Traceback" in outcome.stderr or "panicked" in outcome.stderr:
        yield f"standard error: {outcome.stderr[:300]!r}"


def run(
    count: int, seed: int, kinds: list[str] | None = None, first: int = 0
) -> tuple[Counter[str], list[str]]:
    """Mutate `count` models in turn from number `first`. Returns outcomes by kind, and faults."""
    for runtime in ("onnx", "openvino", "pytorch"):  # imported once, before the forks
        importlib.import_module(f"soprano.backends.{runtime}")
    outcomes: Counter[str] = Counter()
    faults = []
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        models = _made_in_child(work)
        chosen = kinds or list(KINDS)
        expected = {kind: in_child(kind, models[kind]).text for kind in chosen}
        for number in range(first, first + count):
            kind = chosen[number % len(chosen)]
            rng = random.Random(f"{seed} {number}")
            folder = work / "mutant"
            change = mutate_folder(models[kind], folder, rng)
            outcome = in_child(kind, folder)
            outcomes[f"{kind}: {outcome.kind}"] += 1
            for fault in faults_of(kind, outcome, folder, expected[kind]):
                faults.append(f"{kind}, mutant {number}, {change}: {fault}")
                print(faults[-1], flush=True)
            shutil.rmtree(folder)
    return outcomes, faults


def _made_in_child(work: Path) -> dict[str, Path]:
    """The models, made in a child process: this one must start no runtime before it forks."""
    source = next(path for path in fixture_models() if path.name == "v11")
    outcome = call(lambda: str(len(make_models(work))), ())
    if outcome.kind != "done":
        raise RuntimeError(f"the models cannot be made: {outcome}")
    made = {name: source for name in KINDS if name.startswith("checkpoint")}
    made |= {name: work / name for name in KINDS if (work / name).exists()}
    return made | {"onnx without a manifest": work / "bare"}
