"""Threads, files and memory: constant over many openings, and bounded where a caller asks."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from soprano.audio import Audio, read_wav
from soprano.backends import MAX_THREADS, installed_backends, open_backend
from soprano.errors import BackendError
from soprano.synthesis import SopranoTTS

from ..model_folders.checkpoints import SOURCE

LINUX = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads Linux's /proc")


def counted():
    return [len(os.listdir(f"/proc/self/{kind}")) for kind in ("task", "fd")]


@LINUX
@pytest.mark.parametrize("name", installed_backends())
def test_opening_and_closing_leaves_no_thread_and_no_file(name):
    counts = []
    for _ in range(6):
        backend = open_backend(name, SOURCE, threads=1)
        backend.decode(np.zeros((1, 2, backend.config.language_model.hidden_size)), np.array([2]))
        backend.close()
        del backend
        counts.append(counted())
    assert counts[2] == counts[-1]


def test_the_number_of_threads_is_bounded():
    for threads in (0, MAX_THREADS + 1, 10_000):
        with pytest.raises(ValueError, match=f"1 to {MAX_THREADS}"):
            open_backend("onnx_cpu", SOURCE, threads=threads)


def test_samples_that_are_not_finite_are_an_error():
    voice = SopranoTTS(SOURCE)
    nan = lambda spectrum, config: np.full(9, np.nan, np.float32)  # noqa: E731
    from dataclasses import replace

    broken = SopranoTTS(SOURCE, stages=replace(voice.stages, istft=nan))
    with pytest.raises(BackendError, match="must be finite"):
        broken.infer("Hi.", max_new_tokens=4)


def test_threads_that_save_to_one_path_leave_one_whole_file(tmp_path):
    path, start = tmp_path / "a.wav", threading.Barrier(16)

    def save(number):
        start.wait()
        for _ in range(5):
            Audio(np.full(5000 + number, number / 20, np.float32), 16000).save(path)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(save, range(16)))
    audio = read_wav(path)
    number = len(audio) - 5000
    assert np.allclose(audio.samples, number / 20, atol=1e-4)
    assert [each.name for each in tmp_path.iterdir()] == ["a.wav"]


def test_a_link_that_is_planted_beside_a_file_is_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"kept")
    (tmp_path / f".a.wav.{os.getpid()}.part").symlink_to(victim)
    Audio(np.zeros(4, np.float32), 16000).save(tmp_path / "a.wav")
    assert victim.read_bytes() == b"kept"
