"""Faults of runtimes: other arithmetic than was asked for, and answers that are not honest."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from conformance.faults.fault import DECODER, FOLDER, LANGUAGE_MODEL, RUNTIME, fault
from conformance.faults.language_model import GRAPHS, TYPED_GRAPHS, is_projection, round_input
from conformance.faults.plant import Float32, Plant, Wrapper, to_bfloat16
from soprano.backends import Attested, Output


def is_product(kind: str, name: str) -> bool:
    return kind in ("Gemm", "MatMul")


@fault("RT-01", LANGUAGE_MODEL, hard=True)
def bfloat16_chosen_by_the_cpu(plant: Plant) -> None:
    """On some processors the runtime takes bfloat16 for matrix products by itself."""
    plant.weights(lambda name, values: to_bfloat16(values) if values.ndim > 1 else values)


@fault("RT-02", DECODER, model="v10", blame=("LM", "DE"))
def weights_saved_as_half(plant: Plant) -> None:
    """The converter compresses weights to half precision unless it is told not to."""
    plant.weights(lambda name, values: values.astype(np.float16).astype(np.float32))


@fault("RT-04", LANGUAGE_MODEL, hard=True, backends=GRAPHS)
def pairs_of_products_saturate(plant: Plant) -> None:
    """Eight-bit products are added in pairs of 16 bits, which overflow for large neighbours."""

    # All else stays exact: only a pair beyond 32767 steps of x and w (255 and 127) is cut.
    def change(g: Any, kind: str, inputs: Any, attributes: Any) -> Any:
        x, w = inputs[:2]
        rows, size = g._weights["lm_head.weight"].shape
        limit = 32767 / (255 * 127)

        def largest(value: str, part: str) -> str:
            size = g.op("Abs", value, name=f"pairs.{part}.size")
            return g.op("ReduceMax", size, name=f"pairs.{part}.largest", keepdims=0)

        most = g.op("Mul", largest(x, "x"), largest(w, "w"), name="pairs.most")
        most = g.op("Mul", most, g.constant(limit, np.float32), name="pairs.limit")
        x = g.op("Reshape", x, g.constant([-1, 1, size // 2, 2]), name="pairs.x")
        w = g.op("Reshape", w, g.constant([1, rows, size // 2, 2]), name="pairs.w")
        products = g.op("Mul", x, w, name="pairs.products")
        pairs = g.op("ReduceSum", products, g.constant([3]), name="pairs.sums", keepdims=0)
        least = g.op("Neg", most, name="pairs.least")
        cut = g.op("Max", g.op("Min", pairs, most, name="pairs.high"), least, name="pairs.low")
        return "ReduceSum", (cut, g.constant([2])), {"keepdims": 0}

    plant.node(lambda kind, name: name == "lm_head.product", change)


@fault("RT-05", DECODER)
def eight_bits_for_a_whole_tensor(plant: Plant) -> None:
    """Depthwise convolutions and the head are quantised with one scale a tensor."""

    def change(name: str, values: Float32) -> Float32:
        if not is_projection(name, "dwconv", "out") or "self_attn" in name:
            return values
        step = np.abs(values).max() / 127
        return (np.rint(values / step) * step).astype(np.float32)

    plant.weights(change)


@fault("RT-07", FOLDER, blame=("EX",))
def half_precision_only_by_name(plant: Plant) -> None:
    """A bundle says half precision and its weights are stored at full size: nothing is saved."""
    from soprano.export import bundle

    plant.replace(bundle._narrowed, lambda tensors, precision: dict(tensors))


@fault("RT-08", DECODER, hard=True, blame=("LM", "DE"))
def some_inputs_corrupted(plant: Plant) -> None:
    """An accelerator answers one input in eight wrongly, always the same ones."""

    class Corrupting(Wrapper):
        def decode(self, hidden: Any, lengths: Any) -> Any:
            spectrum = self.inner.decode(hidden, lengths)
            if hashlib.sha256(np.ascontiguousarray(hidden).tobytes()).digest()[0] % 8 == 0:
                spectrum = spectrum.copy()
                spectrum[..., :4, :, :] *= np.float32(1.01)
                spectrum[:, 3] *= np.float32(1.01)
            return spectrum

    plant.backend(Corrupting)


@fault("RT-09", LANGUAGE_MODEL)
def precision_by_what_lies_in_the_folder(plant: Plant) -> None:
    """The language model runs in bfloat16 because a file of that type was found."""

    def rounded(output: Any) -> Any:
        return output._replace(logits=to_bfloat16(output.logits), hidden=to_bfloat16(output.hidden))

    class Coarse(Wrapper):
        def prefill(self, ids: Any, lengths: Any) -> Any:
            return rounded(self.inner.prefill(ids, lengths))

        def step(self, ids: Any, state: Any) -> Any:
            return rounded(self.inner.step(ids, state))

    plant.backend(Coarse)


@fault("RT-10", LANGUAGE_MODEL, hard=True, backends=TYPED_GRAPHS)
def activations_cast_before_products(plant: Plant) -> None:
    """Products of half-precision weights cast the activations to half precision too."""
    round_input(plant, lambda kind, name: kind == "Gemm" and name.endswith("down_proj"))


@fault("RT-50", DECODER, hard=True)
def subnormal_and_small_values_flushed(plant: Plant) -> None:
    """Values under a ten-thousandth are flushed to zero on their way out of the decoder."""

    class Flushing(Wrapper):
        def decode(self, hidden: Any, lengths: Any) -> Any:
            spectrum = self.inner.decode(hidden, lengths)
            return np.where(np.abs(spectrum) < 1e-4, np.float32(0), spectrum)

    plant.backend(Flushing)


@fault("RT-51", LANGUAGE_MODEL, hard=True)
def result_depends_on_the_call_before(plant: Plant) -> None:
    """A scratch buffer keeps a trace of the call before: a millionth of its logits."""

    class Tainted(Wrapper):
        trace = None

        def step(self, ids: Any, state: Any) -> Any:
            output = self.inner.step(ids, state)
            before, self.trace = self.trace, output.logits[0]
            if before is None:
                return output
            return output._replace(logits=output.logits + np.float32(1e-6) * before)

    plant.backend(Tainted)


@fault("RT-52", RUNTIME, hard=True)
def declared_precision_is_a_wish(plant: Plant) -> None:
    """The runtime reads back bfloat16, and the backend declares float32 all the same."""

    class Wishful(Wrapper):
        def attest(self) -> Any:
            return {**self.inner.attest(), "precision": Attested("bf16", "read back")}

    plant.backend(Wishful)


@fault("RT-53", RUNTIME, hard=True)
def threads_not_granted(plant: Plant) -> None:
    """The runtime takes every core, whatever number of threads was asked for."""

    class Busy(Wrapper):
        def attest(self) -> Any:
            return {**self.inner.attest(), "threads": Attested("64", "read back")}

    plant.backend(Busy)


@fault("RT-54", RUNTIME, hard=True)
def eight_bit_cache_unnoticed(plant: Plant) -> None:
    """The runtime keeps its cache in eight bits by default, and says so when it is asked."""

    class Small(Wrapper):
        def attest(self) -> Any:
            return {**self.inner.attest(), "cache precision": Attested("u8", "read back")}

    plant.backend(Small)


@fault("RT-55", RUNTIME, hard=True, blame=("AT", "LM"))
def ids_left_over_by_the_threads(plant: Plant) -> None:
    """The output head is shared out in slices of V // threads ids, and the rest stays zero."""

    class Sliced(Wrapper):
        def prefill(self, ids: Any, lengths: Any) -> Output:
            return self._sliced(self.inner.prefill(ids, lengths))

        def step(self, ids: Any, state: Any) -> Output:
            return self._sliced(self.inner.step(ids, state))

        def _sliced(self, output: Output) -> Output:
            threads = self.inner.attest()["threads"].value
            count = int(threads) if threads.isdigit() else 1
            logits = output.logits.copy()
            size = logits.shape[1]
            logits[:, size - size % count :] = 0
            return output._replace(logits=logits)

    plant.backend(Sliced)
