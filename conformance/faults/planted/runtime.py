"""Faults of runtimes: other arithmetic than was requested, and a wrong attestation."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from conformance.faults.fault import DECODER, LANGUAGE_MODEL, RUNTIME, fault
from conformance.faults.network_hooks import (
    GRAPHS,
    TYPED_GRAPHS,
    patch,
    with_nodes,
    with_rounded_input,
    with_weights,
)
from conformance.faults.plant import Float32, Wrapper, to_bfloat16, with_backend
from conformance.faults.planted.decoder import DecodeWrapper
from conformance.faults.planted.language_model import OutputWrapper, is_weight
from conformance.judging import forked
from conformance.subject import Subject
from soprano.backends import Attested, Output, open_backend
from soprano.forked import Process


@fault(LANGUAGE_MODEL, "LM-01", hard=True, public=True)
def bfloat16_chosen_by_the_cpu(subject: Subject) -> Subject:
    """On some processors the runtime uses bfloat16 for matmuls by default."""
    return with_weights(
        subject, lambda name, values: to_bfloat16(values) if values.ndim > 1 else values
    )


@fault(DECODER, "LM-01", model="v10", blame=("LM", "DE"), public=True)
def weights_saved_as_half(subject: Subject) -> Subject:
    """The converter stores weights in half precision by default."""
    return with_weights(subject, lambda name, values: values.astype(np.float16).astype(np.float32))


@fault(LANGUAGE_MODEL, "LM-01", hard=True, backends=GRAPHS, public=True)
def pairs_of_products_saturate(subject: Subject) -> Subject:
    """Eight-bit products are added in pairs in 16 bits, which saturate for large neighbours."""

    # All else stays exact: only a pair beyond 32767 steps of x and w (255 and 127) is clipped.
    def change(g: Any, kind: str, inputs: Any, attributes: Any) -> Any:
        x, w = inputs[:2]
        rows, size = g.weights["lm_head.weight"].shape
        limit = 32767 / (255 * 127)

        def largest(value: str, part: str) -> str:
            size = g.op("Abs", value, name=f"pairs.{part}.size")
            return str(g.op("ReduceMax", size, name=f"pairs.{part}.largest", keepdims=0))

        most = g.op("Mul", largest(x, "x"), largest(w, "w"), name="pairs.most")
        most = g.op("Mul", most, g.constant(limit, np.float32), name="pairs.limit")
        x = g.op("Reshape", x, g.constant([-1, 1, size // 2, 2]), name="pairs.x")
        w = g.op("Reshape", w, g.constant([1, rows, size // 2, 2]), name="pairs.w")
        products = g.op("Mul", x, w, name="pairs.products")
        pairs = g.op("ReduceSum", products, g.constant([3]), name="pairs.sums", keepdims=0)
        least = g.op("Neg", most, name="pairs.least")
        cut = g.op("Max", g.op("Min", pairs, most, name="pairs.high"), least, name="pairs.low")
        return "ReduceSum", (cut, g.constant([2])), {"keepdims": 0}

    return with_nodes(subject, lambda kind, name: name == "lm_head.product", change)


@fault(DECODER, "DE-01", with_weights, public=True)
def eight_bits_for_a_whole_tensor(name: str, values: Float32) -> Float32:
    """Depthwise convolutions and the head are quantised with one scale per tensor."""
    if not is_weight(name, "dwconv", "out"):
        return values
    scale = np.abs(values).max() / 127
    return (np.rint(values / scale) * scale).astype(np.float32)


@fault(DECODER, "DE-01", with_backend, hard=True, blame=("LM", "DE"), public=True)
class SomeInputsCorrupted(DecodeWrapper):
    """An accelerator returns a wrong output for one input in eight, always the same ones."""

    def changed(self, spectrum: Any, hidden: Any, lengths: Any) -> Any:
        if hashlib.sha256(np.ascontiguousarray(hidden).tobytes()).digest()[0] % 8 == 0:
            spectrum[..., :4, :, :] *= np.float32(1.01)
            spectrum[:, 3] *= np.float32(1.01)
        return spectrum


@fault(LANGUAGE_MODEL, "LM-01", with_backend, public=True)
class PrecisionByWhatLiesInTheFolder(OutputWrapper):
    """The language model runs in bfloat16 because a file of that type was found."""

    def changed(self, output: Output) -> Output:
        logits, hidden = to_bfloat16(output.logits), to_bfloat16(output.hidden)
        return output._replace(logits=logits, hidden=hidden)


@fault(LANGUAGE_MODEL, "LM-01", hard=True, backends=TYPED_GRAPHS, public=True)
def activations_cast_before_products(subject: Subject) -> Subject:
    """A matmul with half-precision weights casts its input to half precision too."""
    return with_rounded_input(
        subject, lambda kind, name: kind == "Gemm" and name.endswith("down_proj")
    )


@fault(DECODER, "DE-01", with_backend, hard=True)
class SubnormalAndSmallValuesFlushed(DecodeWrapper):
    """Spectrum values below 1e-4 are flushed to zero."""

    def changed(self, spectrum: Any, hidden: Any, lengths: Any) -> Any:
        return np.where(np.abs(spectrum) < 1e-4, np.float32(0), spectrum)


@fault(LANGUAGE_MODEL, "LM-06", with_backend, hard=True)
class ResultDependsOnTheCallBefore(Wrapper):
    """A scratch buffer adds a millionth of the previous call's logits."""

    trace = None

    def step(self, ids: Any, state: Any) -> Output:
        output = self.inner.step(ids, state)
        before, self.trace = self.trace, output.logits[0]
        if before is None:
            return output
        return output._replace(logits=output.logits + np.float32(1e-6) * before)


def with_attested(subject: Subject, field: str, value: str) -> Subject:
    """Change one attested field."""

    class Attesting(Wrapper):
        def attest(self) -> Any:
            return {**self.inner.attest(), field: Attested(value, "read back")}

    return with_backend(subject, Attesting)


@fault(RUNTIME, "AT-02", hard=True)
def declared_precision_is_a_wish(subject: Subject) -> Subject:
    """The runtime reports bfloat16, and the backend declares float32."""
    return with_attested(subject, "precision", "bf16")


@fault(RUNTIME, "AT-03", hard=True)
def threads_not_granted(subject: Subject) -> Subject:
    """The runtime uses every core, whatever the requested number of threads."""
    return with_attested(subject, "threads", "64")


@fault(RUNTIME, "AT-02", hard=True)
def eight_bit_cache_unnoticed(subject: Subject) -> Subject:
    """The runtime's KV cache has eight bits by default, which the attestation shows."""
    return with_attested(subject, "cache precision", "u8")


@fault(RUNTIME, "AT-04", with_backend, hard=True, blame=("AT", "LM"))
class IdsLeftOverByTheThreads(OutputWrapper):
    """The output head is divided into slices of V // threads ids, and the rest stays zero."""

    def changed(self, output: Output) -> Output:
        threads = self.inner.attest()["threads"].value
        count = int(threads) if threads.isdigit() else 1
        logits = output.logits.copy()
        size = logits.shape[1]
        logits[:, size - size % count :] = 0
        return output._replace(logits=logits)


class OneThread(Wrapper):
    """A backend whose calls are made by a thread of its own."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.thread = ThreadPoolExecutor(1)

    def prefill(self, *arguments: Any) -> Any:
        return self.thread.submit(self.inner.prefill, *arguments).result()


class LeftBehind(Wrapper):
    """A backend whose decoder's buffers belong to the process that opened it."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.process = os.getpid()
        # What the backends of this package refuse.
        patch("require_current", lambda process: None, Process)

    def decode(self, hidden: Any, lengths: Any) -> Any:
        spectrum = self.inner.decode(hidden, lengths)
        return spectrum if os.getpid() == self.process else np.zeros_like(spectrum)


def open_one_thread(folder: Any, *, precision: str, threads: int | None) -> Any:
    return OneThread(open_backend("auto", folder.path, precision, threads))


def open_left_behind(folder: Any, *, precision: str, threads: int | None) -> Any:
    return LeftBehind(open_backend("auto", folder.path, precision, threads))


@fault(RUNTIME, "AT-05", hard=True, public=True)
def opened_before_fork_hangs(subject: Subject) -> Subject:
    """In a forked process calls wait for a thread of the runtime, which does not exist there."""
    patch("factory", lambda name: f"{__name__}:open_one_thread", forked)
    patch("SECONDS", 3, forked)
    return subject


@fault(RUNTIME, "AT-05", hard=True, public=True)
def opened_before_fork_answers_wrongly(subject: Subject) -> Subject:
    """In a forked process the decoder returns what lies in memory that was not copied."""
    patch("factory", lambda name: f"{__name__}:open_left_behind", forked)
    return subject
