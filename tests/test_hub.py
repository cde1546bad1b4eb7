"""Models of the hub: the real client against a hub on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from soprano import SopranoTTS
from tests.fake_hub import Hub, commit_of, serving
from tests.test_cli import MICRO, assert_refused

NEEDED = {
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "model.safetensors",
    "decoder.safetensors",
}
NOWHERE = "http://127.0.0.1:9"


class Caller:
    """Runs commands with a cache of their own."""

    def __init__(self, cache: Path, hub: Hub) -> None:
        self.cache, self.hub = cache, hub

    def __call__(
        self,
        *arguments: object,
        url: str | None = None,
        code: str | None = None,
        **environment: str,
    ) -> subprocess.CompletedProcess[str]:
        where = {"HF_HOME": str(self.cache), "HF_ENDPOINT": url or self.hub.url, **environment}
        program = ["-m", "soprano"] if code is None else ["-c", code]
        command = [sys.executable, *program, *map(str, arguments)]
        env = {**os.environ, **where}
        return subprocess.run(command, capture_output=True, text=True, env=env)

    def fetch(self, name: str, url: str | None = None) -> Path:
        result = self("fetch", name, url=url)
        assert result.returncode == 0, result.stderr
        assert result.stderr == ""
        return Path(result.stdout.removesuffix("\n"))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as people publish them, with a card and samples beside it."""
    folder = tmp_path_factory.mktemp("published") / "voice"
    shutil.copytree(MICRO["v11"], folder)
    (folder / "README.md").write_text("card", encoding="utf-8")
    (folder / "training_state.pth").write_bytes(b"big")
    (folder / "samples").mkdir()
    (folder / "samples" / "hello.wav").write_bytes(b"RIFF")
    return folder


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("empty")
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    return folder


@pytest.fixture
def soprano(published: Path, empty: Path, tmp_path: Path) -> Iterator[Caller]:
    repositories = {
        "org/voice": {"main": published, "v1.0": MICRO["v10"]},
        "org/other-thing": {"main": empty},
    }
    with serving(repositories) as hub:
        yield Caller(tmp_path / "cache", hub)


def test_fetch_downloads_what_speech_needs_and_prints_the_folder(soprano, published):
    folder = soprano.fetch("org/voice")
    assert soprano.checkpoint.hub.downloaded == NEEDED
    for name in NEEDED:
        assert (folder / name).read_bytes() == (published / name).read_bytes(), name


def test_a_revision_is_a_branch_a_tag_or_a_commit(soprano, published):
    tag = soprano.fetch("org/voice@v1.0")
    assert (tag / "config.json").read_bytes() == (MICRO["v10"] / "config.json").read_bytes()
    commit = soprano.fetch(f"org/voice@{commit_of(published)}")
    assert (commit / "config.json").read_bytes() == (published / "config.json").read_bytes()
    assert soprano.fetch("org/voice@main") == commit != tag


def test_what_was_fetched_needs_no_hub(soprano, published):
    folder = soprano.fetch("org/voice")
    assert soprano.fetch("org/voice", url=NOWHERE) == folder
    assert soprano.fetch(f"org/voice@{commit_of(published)}", url=NOWHERE) == folder
    assert_refused(
        soprano("fetch", "org/voice@v1.0", url=NOWHERE), "org/voice@v1.0", "cannot be reached"
    )


def test_offline_is_one_sentence(soprano):
    assert_refused(soprano("fetch", "org/voice", url=NOWHERE), "not in the cache", "refused")
    result = soprano("say", "Hi", "-m", "org/voice", HF_HUB_OFFLINE="1")
    assert_refused(result, "not in the cache", "HF_HUB_OFFLINE")


def test_what_does_not_exist_is_one_sentence(soprano):
    assert_refused(soprano("fetch", "org/voices"), "no model 'org/voices'")
    assert_refused(soprano("fetch", "org/voice@v9"), "org/voice has no revision 'v9'")
    assert_refused(soprano("fetch", "voice"), "org/name", "'voice'")
    assert_refused(soprano("fetch", "org/other-thing"), "config.json")


def test_a_missing_client_is_one_sentence(soprano):
    code = "import sys; sys.modules['huggingface_hub'] = None; from soprano.cli import main; main()"
    assert_refused(soprano("fetch", "org/voice", code=code), "[hub]")


SPEAK = """
import sys, numpy, soprano
voice = soprano.SopranoTTS("org/voice@main", backend=sys.argv[1])
numpy.save(sys.argv[2], voice.infer("Hello there.", max_new_tokens=20))
"""


@pytest.mark.parametrize("runtime", ["onnx_cpu", "openvino_cpu", "pytorch"])
def test_a_model_of_the_hub_speaks_as_its_folder_does(soprano, published, tmp_path, runtime):
    """The client's cache is made of links, which runtimes refuse to read weights through."""
    result = soprano(runtime, tmp_path / "speech.npy", code=SPEAK)
    assert result.returncode == 0, result.stderr
    expected = SopranoTTS(published, runtime).infer("Hello there.", max_new_tokens=20)
    assert len(expected) > 0
    assert np.array_equal(np.load(tmp_path / "speech.npy"), expected.samples)


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_a_bundle_of_links_speaks_as_the_bundle_does(tmp_path, runtime):
    from soprano.export.bundle import export_bundle

    bundle = export_bundle(MICRO["v11"], tmp_path / "bundle", to=runtime)
    for number, path in enumerate(p for p in sorted(bundle.rglob("*")) if p.is_file()):
        blob = tmp_path / "blobs" / str(number)
        blob.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, blob)
        link = tmp_path / "linked" / path.relative_to(bundle)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    one, two = (
        SopranoTTS(folder, f"{runtime}_cpu").infer("Hello there.", max_new_tokens=20)
        for folder in (tmp_path / "linked", bundle)
    )
    assert len(one) > 0
    assert np.array_equal(one.samples, two.samples)
