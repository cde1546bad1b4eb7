"""Download of models: the client of the Hugging Face hub against a server on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from soprano import SopranoTTS

from ..test_cli import MICRO, assert_rejected, command
from .fake_hub import commit_of, serving

FILES = {
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "model.safetensors",
    "decoder.safetensors",
}
UNREACHABLE = "http://127.0.0.1:9"


class Caller:
    """Runs commands with a cache of its own."""

    def __init__(self, cache, hub):
        self.cache, self.hub = cache, hub

    def __call__(self, *arguments, url=None, code=None, **variables):
        hub = {"HF_HOME": str(self.cache), "HF_ENDPOINT": url or self.hub.url}
        env = {**os.environ, **hub, **variables}
        words = command(*arguments, code=code)
        return subprocess.run(words, capture_output=True, text=True, env=env)

    def fetch(self, name, url=None):
        result = self("fetch", name, url=url)
        assert result.returncode == 0, result.stderr
        assert result.stderr == ""
        return Path(result.stdout.removesuffix("\n"))


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A checkpoint as it is published, with a model card, training state and samples."""
    folder = tmp_path_factory.mktemp("published") / "voice"
    shutil.copytree(MICRO["v11"], folder)
    (folder / "README.md").write_text("card", encoding="utf-8")
    (folder / "training_state.pth").write_bytes(b"state")
    (folder / "samples").mkdir()
    (folder / "samples" / "hello.wav").write_bytes(b"RIFF")
    return folder


@pytest.fixture(scope="module")
def without_config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("without config")
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    return folder


@pytest.fixture
def soprano(published, without_config, tmp_path):
    repositories = {
        "org/voice": {"main": published, "v1.0": MICRO["v10"]},
        "org/other-thing": {"main": without_config},
    }
    with serving(repositories) as hub:
        yield Caller(tmp_path / "cache", hub)


def test_fetch_downloads_the_files_for_synthesis_and_prints_their_folder(soprano, published):
    folder = soprano.fetch("org/voice")
    assert soprano.hub.downloaded == FILES
    for name in FILES:
        assert (folder / name).read_bytes() == (published / name).read_bytes(), name


def test_a_revision_is_a_branch_a_tag_or_a_commit(soprano, published):
    tag = soprano.fetch("org/voice@v1.0")
    assert (tag / "config.json").read_bytes() == (MICRO["v10"] / "config.json").read_bytes()
    commit = soprano.fetch(f"org/voice@{commit_of(published)}")
    assert (commit / "config.json").read_bytes() == (published / "config.json").read_bytes()
    assert soprano.fetch("org/voice@main") == commit != tag


def test_a_model_in_the_cache_needs_no_network(soprano, published):
    folder = soprano.fetch("org/voice")
    assert soprano.fetch("org/voice", url=UNREACHABLE) == folder
    assert soprano.fetch(f"org/voice@{commit_of(published)}", url=UNREACHABLE) == folder
    assert_rejected(
        soprano("fetch", "org/voice@v1.0", url=UNREACHABLE), "org/voice@v1.0", "cannot be reached"
    )


def test_a_model_outside_the_cache_without_network_is_rejected(soprano):
    assert_rejected(soprano("fetch", "org/voice", url=UNREACHABLE), "not in the cache", "refused")
    result = soprano("say", "Hi", "-m", "org/voice", HF_HUB_OFFLINE="1")
    assert_rejected(result, "not in the cache", "HF_HUB_OFFLINE")


def test_an_unknown_model_or_revision_is_rejected(soprano):
    assert_rejected(soprano("fetch", "org/voices"), "no model 'org/voices'")
    assert_rejected(soprano("fetch", "org/voice@v9"), "org/voice has no revision 'v9'")
    assert_rejected(soprano("fetch", "voice"), "org/name", "'voice'")
    assert_rejected(soprano("fetch", "org/other-thing"), "config.json")


def test_a_missing_client_names_its_extra(soprano):
    code = "import sys; sys.modules['huggingface_hub'] = None; from soprano.cli import main; main()"
    assert_rejected(soprano("fetch", "org/voice", code=code), "[hub]")


SYNTHESIZE = """
import sys, numpy, soprano
voice = soprano.SopranoTTS("org/voice@main", backend=sys.argv[1])
numpy.save(sys.argv[2], voice.infer("Hello there.", max_new_tokens=20))
"""


@pytest.mark.parametrize("runtime", ["onnx_cpu", "openvino_cpu", "pytorch"])
def test_a_downloaded_model_gives_the_audio_of_its_folder(soprano, published, tmp_path, runtime):
    """The client's cache consists of symbolic links, through which runtimes read no weights."""
    result = soprano(runtime, tmp_path / "audio.npy", code=SYNTHESIZE)
    assert result.returncode == 0, result.stderr
    expected = SopranoTTS(published, runtime).infer("Hello there.", max_new_tokens=20)
    assert len(expected) > 0
    assert np.array_equal(np.load(tmp_path / "audio.npy"), expected.samples)


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_a_bundle_of_symbolic_links_gives_the_audio_of_the_bundle(tmp_path, runtime):
    from soprano.export.bundle import export_bundle

    bundle = export_bundle(MICRO["v11"], tmp_path / "bundle", to=runtime)
    for number, path in enumerate(p for p in sorted(bundle.rglob("*")) if p.is_file()):
        blob = tmp_path / "blobs" / str(number)
        blob.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, blob)
        link = tmp_path / "linked" / path.relative_to(bundle)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    linked, direct = (
        SopranoTTS(folder, f"{runtime}_cpu").infer("Hello there.", max_new_tokens=20)
        for folder in (tmp_path / "linked", bundle)
    )
    assert len(linked) > 0
    assert np.array_equal(linked.samples, direct.samples)
