"""Measures of processes: memory that is kept, and threads that share work."""

from __future__ import annotations

import pytest

from conformance.judging import memory, processor_time, tolerances
from soprano.backends import open_backend
from soprano.checkpoint.folder import locate


def kept_spectra(folder, **options):
    """ONNX Runtime with a decoder that keeps every spectrum."""
    backend = open_backend("onnx_cpu", folder.path, options.get("precision", "fp32"), 1)
    kept = []
    decode = backend.decode

    def keeping(*arguments):
        kept.append(decode(*arguments))
        return kept[-1].copy()

    backend.decode = keeping
    return backend


def kept_kernels(folder, **options):
    """OpenVINO with one kernel kept per shape, its default."""
    from soprano.backends import openvino

    openvino.LIMITS["CPU_RUNTIME_CACHE_CAPACITY"] = "5000"
    return open_backend("openvino_cpu", folder.path, options.get("precision", "fp32"), 1)


@pytest.mark.parametrize("port", [kept_spectra, kept_kernels])
def test_memory_kept_for_every_sentence_exceeds_the_limit(port):
    name = f"{port.__module__}:{port.__name__}"
    if not memory.measurable():
        with pytest.raises(RuntimeError):  # an error, not a pass
            memory.excess(name, locate("nano"), "fp32")
        return
    assert memory.excess(name, locate("nano"), "fp32") > 1.5 * tolerances.MEMORY_PER_SENTENCE


@pytest.mark.parametrize(
    ("work", "threads"),
    [
        ({"self": {"1": 2.0}}, 1),
        ({"self": {"1": 2.0, "2": 2.0}}, 2),
        # A port in a process of its own: this process only passes messages.
        ({"self": {"1": 1.0, "2": 0.8}, "7": {"7": 2.0}}, 1),
        ({"self": {"1": 1.0, "2": 0.8}, "7": {"7": 2.0, "8": 2.0}}, 2),
    ],
)
def test_threads_are_counted_in_the_process_that_works(monkeypatch, work, threads):
    none = {pid: dict.fromkeys(own, 0.0) for pid, own in work.items()}
    measured = iter([none, work])
    monkeypatch.setattr(processor_time, "_threads", lambda: next(measured))
    assert processor_time.threads_used(lambda: None, 0) == threads
