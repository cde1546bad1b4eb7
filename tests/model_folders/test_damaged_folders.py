"""CK: files that are missing or hold something else, each reported by its name and content."""

from __future__ import annotations

import gzip
import json
import pickle
import shutil
from functools import cache

import numpy as np
import pytest

from soprano.backends import installed_backends, open_backend
from soprano.checkpoint.folder import ModelFolder
from soprano.errors import ModelError
from soprano.tokenizer import load_tokenizer

from .checkpoints import SOURCE

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 129\n"
PAGE = b"\n<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>\n"
SAFETENSORS = (SOURCE / "model.safetensors").read_bytes()
# What is found under the name of another file, and what the message calls it.
FOUND = {
    "LFS pointer": (POINTER, "Git LFS pointer"),
    "annex pointer": (b"/annex/objects/SHA256E-s129--4d7a.bin\n", "git-annex pointer"),
    "page": (PAGE, "HTML page"),
    "answer": (b"Entry not found", "text that begins 'Entry not found'"),
    "nothing": (b"", "empty"),
    "zeros": (bytes(4096), "filled with zeros"),
    "gzip": (gzip.compress(SAFETENSORS), "compressed with gzip"),
    "zip": (b"PK\x03\x04" + bytes(60), "ZIP archive"),
    "pickle": (pickle.dumps({"weight": np.zeros(4)}, protocol=2), "pickle"),
    "GGUF": (b"GGUF\x03\0\0\0" + bytes(60), "GGUF file"),
    "folder": (None, "folder"),
}
FILES = (
    "model.safetensors",
    "decoder.safetensors",
    "decoder.pth",
    "config.json",
    "generation_config.json",
    "tokenizer.json",
)


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(SOURCE, tmp_path / "copy")


def read_everything(path):
    folder = ModelFolder.open(path)
    return (
        folder.generation_defaults,
        load_tokenizer(path),
        folder.language_model_weights(),
        folder.decoder_weights(),
    )


read_everything_once = cache(read_everything)


def message_of(judge, what, copy, *parts):
    """Judge that a folder is rejected by one sentence that has all parts."""
    message = judge.refuses(
        what,
        lambda: read_everything(copy),
        ModelError,
        accepts=lambda: read_everything_once(SOURCE),
    )
    for part in parts:
        judge.equal(f"{what}: {message!r} names {part}", part in message, True)
    judge.equal(f"{what}: advice of PyTorch", "weights_only" in message, False)
    judge.equal(f"{what}: lines", len(message.splitlines()), 1)
    return message


@pytest.mark.requirement("CK-14")
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_holds_something_else_is_named_with_its_content(judge, copy, name):
    if name == "decoder.pth":
        pytest.importorskip("torch", reason="decoder.pth is a PyTorch file")
        (copy / "decoder.safetensors").unlink()
    for what, (content, called) in FOUND.items():
        if name == "decoder.pth" and what in ("zip", "pickle"):
            called = "not a plain PyTorch state dict"
        path = copy / name
        path.unlink(missing_ok=True)
        if content is None:
            path.mkdir()
        else:
            path.write_bytes(content)
        message_of(judge, what, copy, name, called)


@pytest.mark.requirement("CK-14")
@pytest.mark.parametrize("name", [n for n in FILES if n != "generation_config.json"])
def test_a_missing_file_is_named_with_what_the_folder_holds(judge, copy, name):
    for path in copy.glob(f"{name.split('.')[0]}.*"):
        path.unlink()
    (copy / f"{name}.incomplete").write_bytes(b"begun")
    message = message_of(judge, name, copy, f"has no {name}".replace("pth", "safetensors"))
    judge.equal("the folder's content", f"{name}.incomplete" in message, True)
    if name != "config.json":
        judge.equal("config.json is blamed", "config.json:" in message, False)


@pytest.mark.requirement("CK-14")
@pytest.mark.parametrize(
    "names",
    [
        ("pytorch_model.bin",),
        ("voice.ggml",),
        ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"),
        ("model.safetensors.part",),
        ("consolidated.pth", "tf_model.h5"),
        (),
    ],
)
def test_weights_of_another_form_are_listed_and_the_form_that_is_read_is_named(judge, copy, names):
    (copy / "model.safetensors").unlink()
    for name in names:
        (copy / name).write_bytes(SAFETENSORS)
    expected = ("model.safetensors", "model.safetensors.index.json", *names)
    message_of(judge, str(names), copy, *expected)


@pytest.mark.requirement("CK-14")
@pytest.mark.parametrize(
    "content", ["{}", '{"weight_map": ["a"]}', '{"weight_map": {"a": 1}}', "["]
)
def test_a_damaged_index_of_shards_is_named(judge, copy, content):
    (copy / "model.safetensors").unlink()
    (copy / "model.safetensors.index.json").write_text(content, encoding="utf-8")
    message_of(judge, content, copy, "model.safetensors.index.json")


@pytest.mark.requirement("CK-14")
@pytest.mark.parametrize("indent", [None, 2])
def test_the_place_of_an_error_in_a_json_file_is_named(judge, copy, indent):
    text = json.dumps({"it's": 1, **json.loads((copy / "config.json").read_text())}, indent=indent)
    (copy / "config.json").write_text(text[:-20], encoding="utf-8")
    message_of(judge, "truncated", copy, "config.json", "line ", "column ")


@pytest.mark.requirement("CK-14")
def test_a_missing_shard_is_named(judge, copy):
    (copy / "model.safetensors").rename(copy / "model-00001-of-00002.safetensors")
    weight_map = dict.fromkeys(("a", "b"), "model-00002-of-00002.safetensors")
    index = json.dumps({"weight_map": weight_map})
    (copy / "model.safetensors.index.json").write_text(index, encoding="utf-8")
    message_of(judge, "shard", copy, "has no model-00002-of-00002.safetensors")


@pytest.mark.requirement("CK-14")
def test_a_pickle_of_more_than_tensors_is_rejected_without_advice(judge, copy):
    torch = pytest.importorskip("torch", reason="decoder.pth is a PyTorch file")
    (copy / "decoder.safetensors").unlink()
    tensor = torch.zeros(3)
    torch.save({"a": tensor}, copy / "whole.pth")
    whole = (copy / "whole.pth").read_bytes()
    for what, content, parts in (
        ("module", torch.nn.Linear(2, 2), ("Python objects other than tensors",)),
        ("array", {"a": np.zeros(3)}, ("Python objects other than tensors",)),
        ("list", [tensor], ("it holds a list",)),
        ("nested", {"state_dict": {"a": tensor}}, ("'state_dict' is a dict",)),
        ("truncated", whole[: len(whole) // 2], ("incomplete",)),
        ("safetensors", SAFETENSORS, ("a safetensors file",)),
    ):
        if isinstance(content, bytes):
            (copy / "decoder.pth").write_bytes(content)
        else:
            torch.save(content, copy / "decoder.pth")
        message_of(judge, what, copy, "decoder.pth", *parts)


@pytest.mark.requirement("CK-14")
def test_a_state_dict_of_parameters_is_read(judge, copy):
    torch = pytest.importorskip("torch", reason="decoder.pth is a PyTorch file")
    expected = ModelFolder.open(SOURCE).decoder_weights()
    (copy / "decoder.safetensors").unlink()
    state = {name: torch.nn.Parameter(torch.tensor(v)) for name, v in expected.items()}
    torch.save(state, copy / "decoder.pth")
    for name, values in ModelFolder.open(copy).decoder_weights().items():
        judge.bits(name, values, expected[name])


@pytest.mark.requirement("CK-14")
@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_a_file_of_a_bundle_that_no_runtime_can_read_is_named(judge, tmp_path, runtime):
    pytest.importorskip(runtime.replace("onnx", "onnxruntime"), reason="a bundle is opened")
    from soprano.export.bundle import export_bundle

    bundle = export_bundle(SOURCE, tmp_path / "bundle", to=runtime)
    name = f"{runtime}_cpu"
    opened = open_backend(name, bundle)
    contents = (POINTER, None)
    graphs = {
        "onnx": ("decoder.onnx", "model.safetensors"),
        "openvino": ("decoder.xml", "lm_step.bin"),
    }
    for file in graphs[runtime]:
        for content in contents:
            damaged = shutil.copytree(bundle, tmp_path / "damaged", dirs_exist_ok=True)
            path = damaged / runtime / file
            if content is not None:
                path.write_bytes(content)
            elif file.endswith(("safetensors", "bin")):  # a bundle may lack a graph
                path.unlink()
            else:
                path.write_bytes(path.read_bytes()[:100])
            message = judge.refuses(
                f"{file}: {content}",
                lambda folder=damaged: open_backend(name, folder),
                ModelError,
                accepts=lambda: opened,
            )
            judge.equal(f"{message!r} names the file", file in message, True)
            judge.equal("lines", len(message.splitlines()), 1)


@pytest.mark.requirement("CK-14")
@pytest.mark.parametrize("name", installed_backends())
def test_every_backend_lists_what_a_folder_without_weights_holds(judge, copy, name):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    message = judge.refuses(
        name,
        lambda: open_backend(name, copy),
        ModelError,
        accepts=lambda: open_backend(name, SOURCE),
    )
    for part in ("model.safetensors", "pytorch_model.bin"):
        judge.equal(f"{message!r} names {part}", part in message, True)
