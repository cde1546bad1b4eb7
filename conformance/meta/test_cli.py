"""The command line as a user meets it: exit status, one sentence, no traceback."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import wave
from pathlib import Path

import pytest

from conformance.vectors import fixture_models

MICRO = {path.name: path for path in fixture_models()}


def soprano(*arguments: object, code: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "soprano", *map(str, arguments)]
    if code is not None:
        command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def assert_refused(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    for word in words:
        assert word in lines[0], result.stderr


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    folder = tmp_path / "damaged"
    shutil.copytree(MICRO["v11"], folder)
    return folder


def test_say_writes_a_wav_file(tmp_path):
    out = tmp_path / "hello.wav"
    result = soprano("say", "Hello.", "-m", MICRO["v11"], "-o", out, "--max-new-tokens", 20)
    assert result.returncode == 0, result.stderr
    with wave.open(str(out)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16000)
        assert file.getnframes() > 0


def test_export_then_say_from_the_bundle(tmp_path):
    bundle, out = tmp_path / "bundle", tmp_path / "a.wav"
    made = soprano("export", "-m", MICRO["v10"], "--to", "onnx", "-o", bundle)
    assert made.returncode == 0, made.stderr
    spoken = soprano("say", "Hi there.", "-m", bundle, "-o", out, "--max-new-tokens", 10)
    assert spoken.returncode == 0, spoken.stderr
    assert out.stat().st_size > 44


def test_info_tells_the_effective_configuration():
    result = soprano("info", "-m", MICRO["v11"], "-b", "openvino_cpu")
    assert result.returncode == 0, result.stderr
    assert "precision: f32 (read back)" in result.stdout


def test_a_wrong_model_folder_is_one_sentence(tmp_path):
    assert_refused(soprano("say", "Hi", "-m", tmp_path / "none"), "no model")
    assert_refused(soprano("say", "Hi", "-m", tmp_path), "config.json")


def test_an_unknown_backend_is_one_sentence():
    assert_refused(soprano("say", "Hi", "-m", MICRO["v11"], "-b", "abacus"), "abacus", "onnx_cpu")


@pytest.mark.parametrize("text", ["", "   ", "..."])
def test_an_empty_text_is_one_sentence(text):
    assert_refused(soprano("say", text, "-m", MICRO["v11"]), "nothing to say")


@pytest.mark.parametrize("runtime", ["onnx_cpu", "openvino_cpu", "pytorch"])
@pytest.mark.parametrize("name", ["model.safetensors", "decoder.safetensors"])
def test_a_truncated_weights_file_is_one_sentence(damaged, name, runtime):
    path = damaged / name
    path.write_bytes(path.read_bytes()[:-100])
    assert_refused(soprano("say", "Hi", "-m", damaged, "-b", runtime), name, "truncated")


def test_a_truncated_bundle_is_one_sentence(tmp_path):
    bundle = tmp_path / "bundle"
    assert soprano("export", "-m", MICRO["v11"], "--to", "onnx", "-o", bundle).returncode == 0
    path = bundle / "onnx" / "decoder.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert_refused(soprano("say", "Hi", "-m", bundle, "-b", "onnx_cpu"), "decoder")


@pytest.mark.parametrize(
    ("runtime", "module", "extra"),
    [
        ("onnx_cpu", "onnxruntime", "[onnx]"),
        ("openvino_cpu", "openvino", "[openvino]"),
        ("pytorch", "torch", "[torch]"),
    ],
)
def test_a_missing_extra_is_one_sentence(runtime, module, extra):
    hide = f"import sys; sys.modules[{module!r}] = None; from soprano.cli import main; main()"
    result = soprano("say", "Hi", "-m", MICRO["v11"], "-b", runtime, code=hide)
    assert_refused(result, extra)


def test_an_option_out_of_range_is_one_sentence():
    result = soprano("say", "Hi", "-m", MICRO["v11"], "--temperature", -1)
    assert_refused(result, "temperature")


def test_a_bundle_is_not_written_over_something_else(tmp_path):
    (tmp_path / "precious.txt").write_text("mine", encoding="utf-8")
    result = soprano("export", "-m", MICRO["v11"], "--to", "onnx", "-o", tmp_path)
    assert_refused(result, "not a bundle")
    assert (tmp_path / "precious.txt").read_text(encoding="utf-8") == "mine"
