"""Variations that are correct: the suite must pass every one of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from threading import Lock
from typing import Any

import numpy as np

from conformance.faults.fault import (
    CACHE,
    DECODER,
    FLOW,
    INTERLEAVING,
    ISTFT,
    LANGUAGE_MODEL,
    SAMPLER,
    STREAMING,
    Stage,
    variation,
)
from conformance.faults.network_hooks import (
    GRAPHS,
    TYPED_GRAPHS,
    patch,
    with_nodes,
    with_standard_networks,
    with_weights,
)
from conformance.faults.plant import Wrapper, as_stage, with_backend, with_stages
from conformance.faults.planted.cache import with_cache_values
from conformance.faults.planted.positions import with_positions
from conformance.faults.planted.streaming import WindowedDecoder, streamed_by
from conformance.oracle.parametric_stages import Istft, Sampler
from conformance.subject import Subject
from soprano.backends import Output
from soprano.errors import BackendError
from soprano.sampling import sample, uniforms

EVERYTHING = Stage("everything", (), FLOW[1:])
EPS = float(np.finfo(np.float32).eps)


def ulps(values: Any, seed: int) -> Any:
    """Values with relative noise of about one float32 ulp, the same for the same values."""
    noise = np.random.default_rng(seed).uniform(-EPS, EPS, np.shape(values))
    return (values * (1 + noise)).astype(np.float32)


@variation(EVERYTHING)
def nothing_at_all(subject: Subject) -> Subject:
    """The subject is unchanged."""
    return subject


@variation(LANGUAGE_MODEL, backends=GRAPHS)
def products_summed_in_another_order(subject: Subject) -> Subject:
    """Every matmul of both networks sums its terms in two halves."""

    def change(g: Any, kind: str, inputs: Any, attributes: Any) -> Any:
        if not attributes.get("transB"):
            return kind, inputs, attributes
        x, w, *bias = inputs
        size = g.weights[w.removesuffix(".float32")].shape[1]
        cut = g.constant([size // 2, size - size // 2])
        serial = len(g.nodes)

        def halves(value: str, part: str) -> list[str]:
            name = f"halves.{part}{serial}"
            return list(g.split("Split", value, cut, name=name, count=2, axis=1))

        (x0, x1), (w0, w1) = halves(x, "x"), halves(w, "w")
        second = g.op("Gemm", x1, w1, *bias, name=f"halves.second{serial}", transB=1)
        return "Gemm", (x0, w0, second), attributes

    return with_nodes(subject, lambda kind, name: kind == "Gemm" and "halves" not in name, change)


@variation(EVERYTHING, threads=2)
def two_threads(subject: Subject) -> Subject:
    """The runtime uses two threads, as requested."""
    return subject


@variation(LANGUAGE_MODEL, backends=("onnx_cpu",))
def no_optimisation(subject: Subject) -> Subject:
    """The runtime runs the standard graph without fusing or folding operators."""
    import onnxruntime as ort

    levels = ort.GraphOptimizationLevel
    patch("ORT_ENABLE_ALL", levels.ORT_DISABLE_ALL, levels)
    return with_standard_networks(subject)


@variation(LANGUAGE_MODEL, backends=TYPED_GRAPHS)
def rotation_table_in_float64(subject: Subject) -> Subject:
    """Cos and sin of RoPE are computed from float64 angles and rounded once."""

    def change(g: Any, kind: str, inputs: Any, attributes: Any) -> Any:
        from onnx import TensorProto

        wide = [
            g.op("Cast", value, name=f"rope.double{i}", to=TensorProto.DOUBLE)
            for i, value in enumerate(inputs)
        ]
        angles = g.op("Mul", *wide, name="rope.wide")
        turn = g.constant(2 * np.pi, np.float64)
        rest = g.op("Mod", angles, turn, name="rope.rest", fmod=1)
        return "Cast", (rest,), {"to": TensorProto.FLOAT}

    return with_nodes(subject, lambda kind, name: name == "rope.angles", change)


@variation(ISTFT)
def transform_in_float64(subject: Subject) -> Subject:
    """The ISTFT is computed in float64 and rounded at its end."""
    return with_stages(subject, istft=Istft())


@variation(STREAMING)
def three_tokens_of_context(subject: Subject) -> Subject:
    """A stream of windows with three tokens of context instead of four."""
    three = type("Three", (WindowedDecoder,), {"left": 3, "right": 3})
    return with_stages(subject, stream=streamed_by(three))


@variation(LANGUAGE_MODEL, with_backend)
class AnUlpOfNoise(Wrapper):
    """Logits, hidden states and spectra have an ulp of noise, which can decide near ties."""

    def prefill(self, ids: Any, lengths: Any) -> Output:
        output = self.inner.prefill(ids, lengths)
        return output._replace(logits=ulps(output.logits, 1), hidden=ulps(output.hidden, 2))

    def step(self, ids: Any, state: Any) -> Output:
        output = self.inner.step(ids, state)
        return output._replace(logits=ulps(output.logits, 3), hidden=ulps(output.hidden, 4))

    def decode(self, hidden: Any, lengths: Any) -> Any:
        return ulps(self.inner.decode(hidden, lengths), 5)


@variation(CACHE, with_cache_values)
def cache_copied_at_every_step(values: Any) -> Any:
    """The KV cache is copied in another memory order at every step."""
    return np.ascontiguousarray(values.transpose(2, 3, 0, 1)).transpose(2, 3, 0, 1)


@variation(LANGUAGE_MODEL, backends=GRAPHS)
def softmax_and_silu_spelt_out(subject: Subject) -> Subject:
    """Softmax is shifted by another constant, and SiLU is x / (1 + exp(-x))."""

    def change(g: Any, kind: str, inputs: Any, attributes: Any) -> Any:
        serial = len(g.nodes)
        if kind == "Softmax":
            shift = g.constant(1.5, np.float32)
            shifted = g.op("Add", inputs[0], shift, name=f"softmax.shifted{serial}")
            return kind, (shifted,), attributes
        negative = g.op("Neg", inputs[0], name=f"silu.neg{serial}")
        power = g.op("Exp", negative, name=f"silu.exp{serial}")
        one = g.constant(1, np.float32)
        return "Div", (one, g.op("Add", one, power, name=f"silu.one{serial}")), {}

    return with_nodes(subject, lambda kind, name: kind in ("Softmax", "Sigmoid"), change)


@variation(LANGUAGE_MODEL)
def weights_inside_the_graph(subject: Subject) -> Subject:
    """The graphs contain their weights instead of pointing into a file."""
    return with_weights(subject, lambda name, values: values)


@variation(LANGUAGE_MODEL)
def positions_moved_together(subject: Subject) -> Subject:
    """All positions of a row begin at 1: RoPE depends on differences only."""
    return with_positions(subject, lambda positions, stepping: positions + 1)


@variation(CACHE, with_backend)
class PromptsReadOneByOne(Wrapper):
    """A prompt of one row is read id by id, without a prefill graph."""

    def prefill(self, ids: Any, lengths: Any) -> Output:
        if np.shape(lengths) != (1,) or np.ndim(ids) != 2:
            return self.inner.prefill(ids, lengths)
        real = np.asarray(ids)[:, : lengths[0]]
        self.inner.prefill(real, lengths)  # rejects wrong ids
        output = self.inner.prefill(real[:, :1], np.array([1]))
        for i in real[0, 1:]:
            output = self.inner.step(np.array([i]), output.state)
        return output


@variation(SAMPLER)
def sampler_sorts_otherwise(subject: Subject) -> Subject:
    """Another sampler, with another sorting algorithm that keeps the order of ties."""
    return with_stages(subject, sample=Sampler())


@variation(SAMPLER, as_stage("sample"))
def temperature_before_the_penalty(logits: Any, history: Any, options: Any, uniform: Any) -> int:
    """Logits are divided by the temperature before the penalty is applied: the two commute."""
    temperature = options.temperature or 1.0
    divided = np.asarray(logits, np.float64) / temperature
    rest = replace(options, temperature=float(bool(options.temperature)))
    return sample(divided, history, rest, uniform)


@variation(LANGUAGE_MODEL, with_backend)
class NoBatchesDeclared(Wrapper):
    """The backend declares that it supports neither select nor join nor fork."""

    @property
    def capabilities(self) -> Any:
        return replace(self.inner.capabilities, select=False, join=False, fork=False)

    def select(self, state: Any, rows: Any) -> Any:
        raise AssertionError("select was not declared")

    def join(self, first: Any, second: Any) -> Any:
        raise AssertionError("join was not declared")

    def fork(self, state: Any) -> Any:
        raise BackendError("fork was not declared")


@variation(INTERLEAVING, with_backend)
class OneRowDeclared(Wrapper):
    """The backend does not declare batches, and a call of several rows is an error."""

    @property
    def capabilities(self) -> Any:
        return replace(self.inner.capabilities, batch=False, join=False)

    def prefill(self, ids: Any, lengths: Any) -> Output:
        assert len(ids) < 2, "the suite passed several rows"
        output: Output = self.inner.prefill(ids, lengths)
        return output

    def decode(self, hidden: Any, lengths: Any) -> Any:
        assert len(hidden) < 2, "the suite passed several rows"
        return self.inner.decode(hidden, lengths)


@variation(INTERLEAVING, with_backend)
class NoThreadsDeclared(Wrapper):
    """The backend does not declare threads, and a call during another one is an error."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.busy = Lock()

    @property
    def capabilities(self) -> Any:
        return replace(self.inner.capabilities, threads=False)

    def __getattr__(self, name: str) -> Any:
        member = getattr(self.inner, name)
        return partial(self.alone, member) if name in ("prefill", "step", "decode") else member

    def alone(self, call: Any, *arguments: Any) -> Any:
        assert self.busy.acquire(blocking=False), "the suite called from two threads"
        try:
            return call(*arguments)
        finally:
            self.busy.release()


@variation(INTERLEAVING, with_backend)
class RefusedStepConsumes(Wrapper):
    """A step that rejects its ids has consumed the state."""

    def step(self, ids: Any, state: Any) -> Output:
        try:
            output: Output = self.inner.step(ids, state)
        except ValueError:
            state.consumed = True
            raise
        return output


@variation(CACHE, with_backend)
class PromptsPaddedToTiles(Wrapper):
    """Prompts are padded to a multiple of 16 ids."""

    def prefill(self, ids: Any, lengths: Any) -> Output:
        if np.ndim(ids) == 2:
            ids = np.pad(np.asarray(ids), ((0, 0), (0, -np.shape(ids)[1] % 16)))
        output: Output = self.inner.prefill(ids, lengths)
        return output


@variation(DECODER, with_backend)
class RowsDecodedOneByOne(Wrapper):
    """A batch of hidden states is decoded row by row."""

    def decode(self, hidden: Any, lengths: Any) -> Any:
        if len(hidden) < 2:
            return self.inner.decode(hidden, lengths)
        rows = [
            self.inner.decode(hidden[i : i + 1, : lengths[i]], np.array([lengths[i]]))
            for i in range(len(hidden))
        ]
        frames = max(row.shape[2] for row in rows)
        wide = [np.pad(r, ((0, 0), (0, 0), (0, frames - r.shape[2]), (0, 0))) for r in rows]
        return np.concatenate(wide)


@variation(DECODER, backends=GRAPHS)
def phase_wrapped(subject: Subject) -> Subject:
    """The phase is wrapped into one turn before cos and sin, exactly."""

    def change(g: Any, kind: str, inputs: Any, attributes: Any) -> Any:
        from onnx import TensorProto

        wide = g.op("Cast", inputs[0], name=f"{kind}.wide", to=TensorProto.DOUBLE)
        rest = g.op("Mod", wide, g.constant(2 * np.pi, np.float64), name=f"{kind}.rest", fmod=1)
        narrow = g.op("Cast", rest, name=f"{kind}.narrow", to=TensorProto.FLOAT)
        return kind, (narrow,), attributes

    return with_nodes(subject, lambda kind, name: name in ("head.Cos", "head.Sin"), change)


@variation(DECODER, backends=GRAPHS)
def clipped_before_the_exponential(subject: Subject) -> Subject:
    """The logarithm of the magnitude is clipped at log(100), instead of the magnitude at 100."""

    def change(g: Any, kind: str, inputs: Any, attributes: Any) -> Any:
        limit = g.constant(np.log(100), np.float32)
        return kind, (g.op("Min", inputs[0], limit, name="head.limited"),), attributes

    return with_nodes(subject, lambda kind, name: name == "head.exp", change)


@variation(DECODER, backends=GRAPHS)
def gelu_spelt_out(subject: Subject) -> Subject:
    """GELU is written with the error function, node by node."""

    def change(g: Any, kind: str, inputs: Any, attributes: Any) -> Any:
        serial = len(g.nodes)
        root = g.op("Mul", inputs[0], g.constant(0.5**0.5, np.float32), name=f"gelu.root{serial}")
        error = g.op("Erf", root, name=f"gelu.erf{serial}")
        one = g.op("Add", error, g.constant(1, np.float32), name=f"gelu.one{serial}")
        half = g.op("Mul", inputs[0], g.constant(0.5, np.float32), name=f"gelu.half{serial}")
        return "Mul", (half, one), {}

    return with_nodes(subject, lambda kind, name: kind == "Gelu", change)


@variation(LANGUAGE_MODEL, backends=GRAPHS)
def norms_by_the_reciprocal(subject: Subject) -> Subject:
    """Every RMSNorm multiplies by the reciprocal of the root instead of dividing by the root."""

    def change(g: Any, kind: str, inputs: Any, attributes: Any) -> Any:
        reciprocal = g.op("Reciprocal", inputs[1], name=f"norm.by{len(g.nodes)}")
        return "Mul", (inputs[0], reciprocal), {}

    return with_nodes(
        subject, lambda kind, name: kind == "Div" and name.endswith("norm.scaled"), change
    )


@variation(SAMPLER, as_stage("uniforms"))
def draws_taken_in_blocks(seed: int, sentence: int, attempt: int = 0) -> Iterator[float]:
    """An utterance's uniforms are taken from its stream twelve at a time."""
    stream = uniforms(seed, sentence, attempt)
    while True:
        yield from [next(stream) for _ in range(12)]
