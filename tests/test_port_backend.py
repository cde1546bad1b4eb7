"""`PortBackend` turns three functions of one utterance into the whole protocol."""

from __future__ import annotations

import inspect
import sys
import textwrap
from types import ModuleType

import numpy as np
import pytest

from conformance.golden.packs import fixture_models
from soprano.backends import Capabilities, open_backend
from soprano.backends.base import REQUIRED_FIELDS, PortBackend
from soprano.checkpoint.folder import ModelFolder
from soprano.errors import BackendError
from soprano.synthesis import shared_stages

MODEL = next(path for path in fixture_models() if path.name == "v11")
IDS, LENGTHS = np.array([[3, 1, 20, 40, 2], [3, 1, 9, 0, 0]]), np.array([5, 3])


@pytest.fixture(scope="module")
def example():
    """The module in the docstring of `PortBackend`."""
    pytest.importorskip("torch")
    code = inspect.getdoc(PortBackend).partition("networks:\n")[2].partition("The base class")[0]
    module = ModuleType("example_port")
    exec(textwrap.dedent(code), vars(module))  # noqa: S102 - our own example
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


@pytest.fixture
def port(example):
    return open_backend("example_port:MyPort", MODEL)


def test_the_docstrings_example_gives_the_outputs_of_the_reference(port):
    reference = open_backend("pytorch", MODEL)
    hidden = []
    for backend in (port, reference):
        first = backend.prefill(IDS, LENGTHS)
        output = backend.step(np.array([5, 6]), first.state)
        hidden.append(np.stack([first.hidden, output.hidden], axis=1))
    np.testing.assert_allclose(hidden[0], hidden[1], atol=1e-5)
    spectra = [backend.decode(hidden[0], np.array([2, 1])) for backend in (port, reference)]
    np.testing.assert_allclose(spectra[0], spectra[1], atol=1e-4)


def test_the_base_class_makes_the_protocols_checks(port):
    output = port.prefill(IDS, LENGTHS)
    with pytest.raises(ValueError, match="ids must be"):
        port.prefill(np.array([[3, 10**6]]), np.array([2]))
    with pytest.raises(ValueError, match="hidden must be"):
        port.decode(np.zeros((1, 3, 7)), np.array([3]))
    port.step(np.array([5, 6]), output.state)
    with pytest.raises(BackendError, match="consumed"):
        port.step(np.array([5, 6]), output.state)
    with pytest.raises(BackendError, match="precision"):
        open_backend("example_port:MyPort", MODEL, precision="int8")
    assert {port.attest()[field].how for field in REQUIRED_FIELDS} == {"unavailable"}


def test_an_output_of_another_shape_is_an_error_that_names_it(example):
    class Batched(example.MyPort):
        def decode_one(self, hidden):
            return super().decode_one(hidden)[None]

    port = Batched(ModelFolder.open(MODEL))
    size = port.config.language_model.hidden_size
    with pytest.raises(BackendError, match=r"spectrum must have shape \(65, 5, 2\), got \(1, 65"):
        port.decode(np.zeros((1, 2, size)), np.array([2]))


def test_a_decoder_of_samples_is_a_port_without_spectrum(example):
    class Audio(example.MyPort):
        decode_one = PortBackend.decode_one

        def decode_audio_one(self, hidden):
            return np.full(self.config.decoder.samples(len(hidden)), hidden[0, 0])

    port = Audio(ModelFolder.open(MODEL))
    assert not port.capabilities.spectrum
    assert not hasattr(example.MyPort(ModelFolder.open(MODEL)), "decode_audio")
    size, per_token = port.config.language_model.hidden_size, port.config.decoder.samples_per_token
    hidden = np.full((3, 4, size), np.arange(1, 4)[:, None, None], np.float32)
    samples = port.decode_audio(hidden, np.array([3, 0, 2]))
    np.testing.assert_array_equal(samples[:, ::per_token], [[1, 1], [0, 0], [3, 0]])
    np.testing.assert_array_equal(shared_stages(port, MODEL).vocode(hidden[0, :3]), samples[0])
    with pytest.raises(ValueError, match="hidden must be"):
        port.decode_audio(np.zeros((1, 3, size + 1), np.float32), np.array([3]))
    with pytest.raises(BackendError, match="decode_one"):
        port.decode(hidden, np.array([3, 0, 2]))


def test_a_port_that_copies_its_cache_supports_fork_select_and_join(example):
    class Copying(example.MyPort):
        capabilities = Capabilities()

        def copy_cache(self, cache):
            return cache  # its tensors are never written

    port = Copying(ModelFolder.open(MODEL))
    state = port.prefill(IDS, LENGTHS).state
    copy = port.fork(state)
    joined = port.join(port.select(state, [1, 0]), copy)
    logits = port.step(np.full(4, 7), joined).logits
    np.testing.assert_array_equal(logits[[0, 1]], logits[[3, 2]])
    assert not np.array_equal(logits[0], logits[1])
