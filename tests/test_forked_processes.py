"""A voice that was opened before a fork is refused in the child at once; opened there, it works.

Each case runs in an interpreter of its own, which is killed if it does not end.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from soprano.backends import installed_backends

from .test_threads import MODEL

SECONDS = 300  # far more than a case takes, also on a busy machine

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")

# The runtime is in use with several threads before the fork, by this package and by the caller.
PARENT = """
import os, sys
import numpy as np
from soprano import BackendError, SopranoTTS

NAME, MODEL = sys.argv[1:]
OPTIONS = {"temperature": 1.0, "max_new_tokens": 10}

def speak(voice):
    # So many frames that every runtime divides them among its threads.
    hidden = np.ones((1, 400, voice.config.language_model.hidden_size), np.float32)
    spectrum = voice.backend.decode(hidden, np.array([400]))
    samples = voice.infer("The train leaves at half past nine.", **OPTIONS).samples
    return np.concatenate([samples, spectrum.ravel()])

def error_of(call):
    try:
        call()
    except BackendError as error:
        assert "open it again" in str(error), error
        return True

if __name__ == "__main__":
    voice = SopranoTTS(MODEL, NAME, threads=2)
    expected = speak(voice)
    stream = voice.infer_stream("Hello there.", **OPTIONS)
    next(stream)
    output = voice.backend.prefill(np.array([[3, 1, 20, 2]]), np.array([4]))
    if NAME == "pytorch":
        import torch
        torch.rand(1000, 1000) @ torch.rand(1000, 1000)
"""
FORK = """
    child = os.fork()
    if child:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
REFUSED = """
    hidden = np.zeros((1, 100, voice.config.language_model.hidden_size), np.float32)
    calls = (
        lambda: speak(voice),
        lambda: voice.infer_batch(["Hello.", "Good bye."], **OPTIONS),
        lambda: list(voice.infer_stream("Hello.", **OPTIONS)),
        lambda: next(stream),
        lambda: voice.backend.prefill(np.array([[3, 1, 2]]), np.array([3])),
        lambda: voice.backend.step(np.array([20]), output.state),
        lambda: voice.backend.decode(hidden, np.array([100])),
        lambda: voice.backend.attest(),
    )
    assert all(map(error_of, calls))
    voice.backend.close()
"""
OPENED = """
    assert np.array_equal(speak(SopranoTTS(MODEL, NAME, threads=2)), expected)
"""
RELEASED = """
    del voice, stream, output
    import gc
    gc.collect()
"""
POOL = """
    import multiprocessing
    with multiprocessing.get_context("{method}").Pool(1) as pool:
        assert np.array_equal(pool.apply(opened_there), expected)
"""
OPENED_THERE = """
def opened_there():
    return speak(SopranoTTS(MODEL, NAME, threads=2))
"""


def run(tmp_path, name, model, *parts):
    # A file, because a process that is spawned imports it.
    script = tmp_path / "script.py"
    script.write_text("".join(parts), encoding="utf-8")
    command = [sys.executable, str(script), name, str(model)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", installed_backends())
def test_every_call_in_a_forked_process_is_refused(tmp_path, name):
    run(tmp_path, name, MODEL, PARENT, FORK, REFUSED)


@pytest.mark.parametrize("name", installed_backends())
def test_a_voice_opened_in_a_forked_process_gives_the_same_samples(tmp_path, name):
    run(tmp_path, name, MODEL, PARENT, FORK, OPENED, RELEASED)


@pytest.mark.parametrize("name", installed_backends())
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_voice_opened_in_a_process_of_a_pool_gives_the_same_samples(tmp_path, name, method):
    main = PARENT.replace("if __name__", OPENED_THERE + "\nif __name__")
    run(tmp_path, name, MODEL, main, POOL.format(method=method))


def test_a_process_forked_before_the_package_was_imported_can_use_pytorch(tmp_path):
    pytest.importorskip("torch")
    script = """
import multiprocessing, sys
import numpy as np
import torch

def work(name, model):
    from soprano import SopranoTTS
    voice = SopranoTTS(model, name)
    hidden = np.ones((1, 400, voice.config.language_model.hidden_size), np.float32)
    return voice.backend.decode(hidden, np.array([400])).size

if __name__ == "__main__":
    torch.rand(2000, 2000) @ torch.rand(2000, 2000)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(work, sys.argv[1:]) > 0
"""
    run(tmp_path, "pytorch", MODEL, script)
