"""Parsers on mutated bytes: each accepts them, or raises one line that names the file.

`random` needs nothing; `atheris` (a package of its own) chooses bytes by the code that they reach.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

import conformance.meta.report
from conformance.documents import DocumentError
from conformance.faults import kill_matrix
from conformance.golden.packs import fixture_models, fixtures_folder, read_pack
from conformance.judging.deviations import DeviationError, load_deviations
from conformance.report import sections
from conformance.report.documents import read_inputs
from conformance.report.summary import markdown, text
from conformance.vectors.packs import check as check_vectors
from soprano.audio import Audio, read_wav
from soprano.backends.openvino_ir import require_sound_ir
from soprano.checkpoint.config_json import read_generation_defaults
from soprano.checkpoint.folder import ModelFolder
from soprano.checkpoint.manifest import read_manifest
from soprano.checkpoint.pickled import read_state_dict
from soprano.checkpoint.tensors import index_file, index_folder
from soprano.errors import SopranoError
from soprano.onnx_graphs.stored_tensors import require_sound
from soprano.tokenizer import load_tokenizer

from .mutations import mutate_bytes, mutate_document

CORPUS = Path(__file__).with_name("corpus")
DOCUMENTS = Path(conformance.meta.report.__file__).parent / "documents"
LONGEST = 300


def _tokenizer(path: Path) -> None:
    load_tokenizer(path.parent).encode("hi there")


def _tensors(path: Path) -> None:
    for tensor in index_file(path).values():
        tensor.read()


def _ir(path: Path) -> None:
    path.with_suffix(".bin").write_bytes(bytes(64))
    require_sound_ir(path)


def _report(path: Path) -> None:
    """The documents of a report, beside a run that is always there."""
    inputs = read_inputs([path, DOCUMENTS / "version_4.json"])
    text(inputs.runs), markdown(inputs.runs)
    list(sections._factors(inputs.benchmarks)), sections.kill_matrix(inputs.matrices)


def _golden_pack(path: Path) -> None:
    read_pack(path, ModelFolder.open(fixture_models()[0]))


# The file that each parser reads, and the parser.
PARSERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "config": ("config.json", lambda path: ModelFolder(path.parent).config),
    "generation_config": (
        "generation_config.json",
        lambda path: read_generation_defaults(path.parent),
    ),
    "manifest": ("manifest.json", lambda path: read_manifest(path.parent)),
    "tokenizer": ("tokenizer.json", _tokenizer),
    "shard_index": (
        "model.safetensors.index.json",
        lambda path: index_folder(path.parent, "model"),
    ),
    "safetensors": ("model.safetensors", _tensors),
    "state_dict": ("decoder.pth", read_state_dict),
    "onnx": ("decoder.onnx", require_sound),
    "openvino_ir": ("decoder.xml", _ir),
    "wav": ("audio.wav", read_wav),
    "report": ("conformance.json", _report),
    "benchmark": ("benchmark.json", _report),
    "faults": ("faults.json", kill_matrix.read),
    "deviations": ("claims.toml", load_deviations),
    "vector_pack": ("manifest.json", lambda path: check_vectors(path.parent, path.parent, "port")),
    "golden_pack": ("pack.safetensors", _golden_pack),
}
# What callers of the parsers expect.
EXPECTED = (SopranoError, DocumentError, DeviationError)


def seeds(name: str) -> list[bytes]:
    """Well-formed inputs of a parser: the corpus, and files of the fixture models."""
    found = [path.read_bytes() for path in sorted((CORPUS / name).glob("*"))]
    models = {path.name: path for path in fixture_models()}
    files = {
        "config": "v11/config.json",
        "generation_config": "v11/generation_config.json",
        "tokenizer": "v11/tokenizer.json",
        "safetensors": "v11/decoder.safetensors",
        "onnx": "nano/decoder.onnx",
    }
    if name in files:
        model, file = files[name].split("/")
        found.append((models[model] / file).read_bytes())
    if name == "manifest":
        entry = {"sha256": "0" * 64, "size": 3}
        document = {
            "schema_version": 1,
            "model": {"identity": ""},
            "precision": {"class": "fp32", "activations": {"onnx": "float32"}},
            "files": {"config.json": entry, "onnx/decoder.onnx": entry},
        }
        found.append(json.dumps(document).encode())
    if name == "shard_index":
        found.append(b'{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}')
    if name == "report":
        found += [path.read_bytes() for path in sorted(DOCUMENTS.glob("*.json"))]
    if name == "golden_pack":
        found.append((fixtures_folder() / "golden" / "v11.safetensors").read_bytes())
    if name == "wav":
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a.wav"
            Audio(np.linspace(-1, 1, 50, dtype=np.float32), 16000).save(path)
            found.append(path.read_bytes())
    return found


def fault_of(name: str, raw: bytes, folder: Path) -> str | None:
    """What is wrong with how a parser takes these bytes; None if nothing is."""
    file, parse = PARSERS[name]
    path = folder / file
    path.write_bytes(raw)
    try:
        parse(path)
    except (*EXPECTED, ValueError) as error:
        if name not in ("wav", "vector_pack") and not isinstance(error, EXPECTED):
            return f"{type(error).__name__}: {error}"
        text = str(error)
        if len(text) > LONGEST or len(text.splitlines()) != 1:
            return f"a message of another form: {text!r}"
        return None if str(folder) in text else f"a message without the file: {text!r}"
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return None


def fuzz(names: Iterable[str], seconds: float, seed: int, most: int | None = None) -> list[str]:
    """Parse mutated inputs in turn for a time. Returns the faults."""
    faults = []
    for name in names:
        rng, inputs = random.Random(f"{seed} {name}"), seeds(name)
        if not inputs:
            continue
        end, cases = time.monotonic() + seconds, 0
        with tempfile.TemporaryDirectory() as folder:
            while time.monotonic() < end and cases != most:
                cases += 1
                raw = rng.choice(inputs)
                document = raw[:1] == b"{" and rng.random() < 0.7
                changed = mutate_document(raw, rng) if document else mutate_bytes(raw, rng)
                if fault := fault_of(name, changed, Path(folder)):
                    faults.append(f"{name}, case {cases} of seed {seed}: {fault}")
                    print(faults[-1], flush=True)
        print(f"{name}: {cases} cases", flush=True)
    return faults


def fuzz_by_coverage(name: str, arguments: list[str]) -> None:
    """Run one parser under atheris, with options of libFuzzer such as -runs=100000."""
    import atheris

    atheris.instrument_all()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as corpus:
        for number, raw in enumerate(seeds(name)):
            (Path(corpus) / str(number)).write_bytes(raw)

        def one(raw: bytes) -> None:
            if fault := fault_of(name, raw, Path(folder)):
                raise AssertionError(fault)

        atheris.Setup([sys.argv[0], corpus, *arguments], one)
        atheris.Fuzz()
