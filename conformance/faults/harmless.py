"""Variations that are right: the suite must stay silent on every one of them."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np

from conformance.faults.fault import (
    CACHE,
    DECODER,
    FLOW,
    ISTFT,
    LANGUAGE_MODEL,
    SAMPLER,
    STREAMING,
    Stage,
    fault,
)
from conformance.faults.language_model import GRAPHS, TYPED_GRAPHS
from conformance.faults.plant import Plant, Wrapper, map_cache
from conformance.faults.streaming import WindowedDecoder
from soprano.streaming import StreamingDecoder

stage = import_module("soprano.stft")  # its name in the package is the function

EVERYTHING = Stage("everything", (), FLOW[1:])
EPS = float(np.finfo(np.float32).eps)


def ulps(values: Any, seed: int) -> Any:
    """Values with relative noise of about one float32 ulp, the same for the same values."""
    noise = np.random.default_rng(seed).uniform(-EPS, EPS, np.shape(values))
    return (values * (1 + noise)).astype(np.float32)


@fault("OK-00", EVERYTHING, harmless=True)
def nothing_at_all(plant: Plant) -> None:
    """The backend as it is."""


@fault("OK-01", LANGUAGE_MODEL, harmless=True, backends=GRAPHS)
def products_summed_in_another_order(plant: Plant) -> None:
    """Every matrix product of both networks sums its terms in two halves."""

    def change(g: Any, kind: str, inputs: Any, attributes: Any) -> Any:
        if not attributes.get("transB"):
            return kind, inputs, attributes
        x, w, *bias = inputs
        size = g._weights[w.removesuffix(".float32")].shape[1]
        cut = g.constant([size // 2, size - size // 2])
        serial = len(g._nodes)

        def halves(value: str, part: str) -> list[str]:
            name = f"halves.{part}{serial}"
            return g.split("Split", value, cut, name=name, count=2, axis=1)

        (x0, x1), (w0, w1) = halves(x, "x"), halves(w, "w")
        second = g.op("Gemm", x1, w1, *bias, name=f"halves.second{serial}", transB=1)
        return "Gemm", (x0, w0, second), attributes

    plant.node(lambda kind, name: kind == "Gemm" and "halves" not in name, change)


@fault("OK-02", EVERYTHING, harmless=True, threads=2)
def two_threads(plant: Plant) -> None:
    """The runtime is asked for two threads, and uses them."""


@fault("OK-03", LANGUAGE_MODEL, harmless=True, backends=("onnx_cpu",))
def no_optimisation(plant: Plant) -> None:
    """The runtime runs the standard graph and fuses and folds nothing."""
    plant.standard()
    import onnxruntime as ort

    levels = ort.GraphOptimizationLevel
    plant.set(ort.GraphOptimizationLevel, "ORT_ENABLE_ALL", levels.ORT_DISABLE_ALL)


@fault("OK-04", LANGUAGE_MODEL, harmless=True, backends=TYPED_GRAPHS)
def rotation_table_in_float64(plant: Plant) -> None:
    """Cosines and sines are computed in float64 and rounded once."""

    def change(g: Any, kind: str, inputs: Any, attributes: Any) -> Any:
        from onnx import TensorProto

        places, frequencies = inputs
        wide = [
            g.op("Cast", value, name=f"rope.double{i}", to=TensorProto.DOUBLE)
            for i, value in enumerate((places, frequencies))
        ]
        angles = g.op("Mul", *wide, name="rope.wide")
        turn = g.constant(2 * np.pi, np.float64)
        rest = g.op("Mod", angles, turn, name="rope.rest", fmod=1)
        return "Cast", (rest,), {"to": TensorProto.FLOAT}

    plant.node(lambda kind, name: name == "rope.angles", change)


@fault("OK-05", ISTFT, harmless=True)
def transform_in_float64(plant: Plant) -> None:
    """The inverse transform runs in float64 with another library and is rounded at its end."""
    inner = stage.istft

    def faulty(spectrum: Any, config: Any, layout: str = "bft2", **options: Any) -> Any:
        dtype = np.asarray(spectrum).dtype
        if dtype != np.float32:
            return inner(spectrum, config, layout, **options)
        return inner(np.asarray(spectrum, np.float64), config, layout, **options).astype(dtype)

    plant.replace(inner, faulty)


@fault("OK-06", STREAMING, harmless=True)
def three_tokens_of_context(plant: Plant) -> None:
    """A stream of windows with three tokens of context instead of four."""
    plant.replace(StreamingDecoder, type("Three", (WindowedDecoder,), {"left": 3, "right": 3}))


@fault("OK-07", LANGUAGE_MODEL, harmless=True)
def an_ulp_of_noise(plant: Plant) -> None:
    """Logits, hidden states and spectra carry an ulp of noise: near ties may fall either way."""

    class Noisy(Wrapper):
        def prefill(self, ids: Any, lengths: Any) -> Any:
            output = self.inner.prefill(ids, lengths)
            return output._replace(logits=ulps(output.logits, 1), hidden=ulps(output.hidden, 2))

        def step(self, ids: Any, state: Any) -> Any:
            output = self.inner.step(ids, state)
            return output._replace(logits=ulps(output.logits, 3), hidden=ulps(output.hidden, 4))

        def decode(self, hidden: Any, lengths: Any) -> Any:
            return ulps(self.inner.decode(hidden, lengths), 5)

    plant.backend(Noisy)


@fault("OK-08", CACHE, harmless=True)
def cache_copied_at_every_step(plant: Plant) -> None:
    """The cache is held transposed and turned back for every step."""

    def turned(values: Any) -> Any:
        return np.ascontiguousarray(values.transpose(2, 3, 0, 1)).transpose(2, 3, 0, 1)

    def change(advance: Any, backend: Any, ids: Any, positions: Any, state: Any) -> Any:
        output = advance(backend, ids, positions, state)
        cache = map_cache(backend, output.state.cache, turned)
        return output._replace(state=replace(output.state, cache=cache))

    plant.advanced(change)


@fault("OK-09", LANGUAGE_MODEL, harmless=True, backends=GRAPHS)
def softmax_and_silu_spelt_out(plant: Plant) -> None:
    """Softmax is shifted by another constant, and SiLU is x / (1 + exp(-x))."""

    def change(g: Any, kind: str, inputs: Any, attributes: Any) -> Any:
        serial = len(g._nodes)
        if kind == "Softmax":
            shifted = g.op(
                "Add", inputs[0], g.constant(1.5, np.float32), name=f"softmax.shifted{serial}"
            )
            return kind, (shifted,), attributes
        powers = g.op(
            "Exp", g.op("Neg", inputs[0], name=f"silu.neg{serial}"), name=f"silu.exp{serial}"
        )
        one = g.constant(1, np.float32)
        return "Div", (one, g.op("Add", one, powers, name=f"silu.one{serial}")), {}

    plant.node(lambda kind, name: kind in ("Softmax", "Sigmoid"), change)


@fault("OK-10", LANGUAGE_MODEL, harmless=True)
def weights_inside_the_graph(plant: Plant) -> None:
    """The graphs carry their weights themselves instead of pointing into a file."""
    plant.weights(lambda name, values: values)


@fault("OK-11", LANGUAGE_MODEL, harmless=True)
def positions_moved_together(plant: Plant) -> None:
    """All positions of a row begin at 1: a rotation sees differences only."""

    def change(advance: Any, backend: Any, ids: Any, positions: Any, state: Any) -> Any:
        return advance(backend, ids, positions + 1, state)

    plant.advanced(change)


@fault("OK-12", CACHE, harmless=True)
def prompts_read_one_by_one(plant: Plant) -> None:
    """A prompt of one row is read id by id: no prefill graph at all."""

    class Stepping(Wrapper):
        def prefill(self, ids: Any, lengths: Any) -> Any:
            if len(ids) != 1:
                return self.inner.prefill(ids, lengths)
            ids = np.asarray(ids)
            self.inner._check_ids(ids[:, : lengths[0]])
            output = self.inner.prefill(ids[:, :1], np.array([1]))
            for number in ids[0, 1 : lengths[0]]:
                output = self.inner.step(np.array([number]), output.state)
            return output

    plant.backend(Stepping)


@fault("OK-13", SAMPLER, harmless=True)
def sampler_sorts_otherwise(plant: Plant) -> None:
    """The sampler ranks with another algorithm that keeps the same order of ties."""
    from soprano import sampling

    inner = sampling.distribution

    def distribution(scores: Any, options: Any) -> Any:
        ids = np.lexsort((np.arange(len(scores)), -np.asarray(scores)))
        back = np.empty_like(ids)
        back[ids] = np.arange(len(ids))
        return inner(np.asarray(scores)[ids], options)[back]

    plant.set(sampling, "distribution", distribution)


@fault("OK-17", SAMPLER, harmless=True)
def temperature_before_the_penalty(plant: Plant) -> None:
    """Logits are divided by the temperature before they are penalised: the two commute."""
    from soprano import sampling

    penalize, distribution = sampling.penalize, sampling.distribution
    heat: list[float] = []

    def sample(logits: Any, history: Any, options: Any, uniform: Any) -> int:
        heat[:] = [options.temperature or 1.0]
        return inner(logits, history, options, uniform)

    inner = sampling.sample
    plant.replace(inner, sample)
    plant.set(
        sampling,
        "penalize",
        lambda logits, history, penalty: (
            heat[0] * penalize(np.asarray(logits, np.float64) / heat[0], history, penalty)
        ),
    )
    assert distribution is sampling.distribution


@fault("OK-14", LANGUAGE_MODEL, harmless=True)
def no_batches_declared(plant: Plant) -> None:
    """The backend declares that it can neither batch, select nor join, and refuses to."""

    class Single(Wrapper):
        @property
        def capabilities(self) -> Any:
            return replace(self.inner.capabilities, select=False, join=False, fork=False)

        def select(self, state: Any, rows: Any) -> Any:
            raise AssertionError("select was not declared")

        def join(self, first: Any, second: Any) -> Any:
            raise AssertionError("join was not declared")

        def fork(self, state: Any) -> Any:
            from soprano.errors import BackendError

            raise BackendError("fork was not declared")

    plant.backend(Single)


@fault("OK-15", DECODER, harmless=True)
def rows_decoded_one_by_one(plant: Plant) -> None:
    """A batch of hidden states is decoded row by row."""

    class Single(Wrapper):
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

    plant.backend(Single)


@fault("OK-16", DECODER, harmless=True, backends=GRAPHS)
def phase_wrapped(plant: Plant) -> None:
    """The phase is brought into one turn before cosine and sine, exactly."""

    def change(g: Any, kind: str, inputs: Any, attributes: Any) -> Any:
        from onnx import TensorProto

        wide = g.op("Cast", inputs[0], name=f"{kind}.wide", to=TensorProto.DOUBLE)
        rest = g.op("Mod", wide, g.constant(2 * np.pi, np.float64), name=f"{kind}.rest", fmod=1)
        narrow = g.op("Cast", rest, name=f"{kind}.narrow", to=TensorProto.FLOAT)
        return kind, (narrow,), attributes

    plant.node(lambda kind, name: name in ("head.Cos", "head.Sin"), change)


@fault("OK-18", DECODER, harmless=True, backends=GRAPHS)
def clipped_before_the_exponential(plant: Plant) -> None:
    """The logarithm of a magnitude is held below that of 100, not the magnitude itself."""

    def change(g: Any, kind: str, inputs: Any, attributes: Any) -> Any:
        limit = g.constant(np.log(100), np.float32)
        return kind, (g.op("Min", inputs[0], limit, name="head.limited"),), attributes

    plant.node(lambda kind, name: name == "head.exp", change)


@fault("OK-19", DECODER, harmless=True, backends=GRAPHS)
def gelu_spelt_out(plant: Plant) -> None:
    """GELU is written with the error function, node by node."""

    def change(g: Any, kind: str, inputs: Any, attributes: Any) -> Any:
        serial = len(g._nodes)
        root = g.op("Mul", inputs[0], g.constant(0.5**0.5, np.float32), name=f"gelu.root{serial}")
        error = g.op("Erf", root, name=f"gelu.erf{serial}")
        one = g.op("Add", error, g.constant(1, np.float32), name=f"gelu.one{serial}")
        half = g.op("Mul", inputs[0], g.constant(0.5, np.float32), name=f"gelu.half{serial}")
        return "Mul", (half, one), {}

    plant.node(lambda kind, name: kind == "Gelu", change)


@fault("OK-20", LANGUAGE_MODEL, harmless=True, backends=GRAPHS)
def norms_by_the_reciprocal(plant: Plant) -> None:
    """Every RMSNorm multiplies by the reciprocal of the root instead of dividing by it."""

    def change(g: Any, kind: str, inputs: Any, attributes: Any) -> Any:
        serial = len(g._nodes)
        return "Mul", (inputs[0], g.op("Reciprocal", inputs[1], name=f"norm.by{serial}")), {}

    plant.node(lambda kind, name: kind == "Div" and name.endswith("norm.scaled"), change)


@fault("OK-21", SAMPLER, harmless=True)
def draws_taken_in_blocks(plant: Plant) -> None:
    """A row's draws are taken from its stream by the dozen and handed out one by one."""
    from soprano import sampling

    inner = sampling.uniforms

    def uniforms(seed: int, sentence: int, attempt: int = 0) -> Any:
        stream = inner(seed, sentence, attempt)
        while True:
            yield from [next(stream) for _ in range(12)]

    plant.replace(inner, uniforms)
