"""A process that times what it is asked for: one JSON object a line in, one out.

It runs in either environment (`soprano` is another package in each), so it imports nothing of
this project but what it measures.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

TEXT = "the quick brown fox jumps over the lazy dog and then it sleeps for a while in the sun."
BATCH = 16
ALONE = (0, 7)  # texts of the batch that are spoken by themselves too
CONTEXTS = 20, 500  # of the timed steps
KNOWN = 64  # ids read before logits are compared

Tasks = dict[str, Callable[[], dict[str, Any]]]


def main() -> None:
    order = json.loads(sys.argv[1])
    replies = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # the peer prints while it speaks
        tasks = OPENERS[order.pop("serve")](**order)
        print(json.dumps({"ready": True}), file=replies, flush=True)
        for line in sys.stdin:
            start, busy = time.perf_counter(), time.process_time()
            told = tasks[json.loads(line)["task"]]()
            told.setdefault("seconds", time.perf_counter() - start)
            told["processor_seconds"] = time.process_time() - busy
            told["peak_mb"] = _peak_kilobytes() / 1024
            print(json.dumps(told), file=replies, flush=True)


def _peak_kilobytes() -> int:
    """The most memory that was ever resident, pages of mapped files among it.

    `ru_maxrss` would begin with the memory of the process that started this one.
    """
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def _voice(own: bool, threads: int, **arguments: Any) -> Tasks:
    """A `SopranoTTS`, this project's own or the peer's."""
    if not own:
        import torch

        torch.set_num_threads(threads)
    from soprano import SopranoTTS

    voice: Any = SopranoTTS(**arguments, **({"threads": threads} if own else {}))
    turn = itertools.count()
    texts = [f"{TEXT[:-1]} {letter}." for letter in "abcdefghijklmnop"[:BATCH]]

    def samples(audio: Any) -> int:
        return len(getattr(audio, "samples", audio))

    def one() -> dict[str, Any]:
        audio = voice.infer(TEXT)
        told: dict[str, Any] = {"samples": samples(audio)}
        if own:
            told |= {"prompt": voice.tokenizer.prompt(audio.sentences[0].text)}
            told |= {"ids": audio.sentences[0].token_ids}
        return told

    def batch() -> dict[str, Any]:
        order = 1 if next(turn) % 2 else -1
        options = {"batch_size": BATCH} if own else {}
        audios = voice.infer_batch(texts[::order], **options)[::order]
        told: dict[str, Any] = {"samples": sum(map(samples, audios))}
        if own:
            told["ids"] = [audio.sentences[0].token_ids for audio in audios]
        return told

    def alone() -> dict[str, Any]:
        """Some texts of the batch, each by itself."""
        audios = [voice.infer(texts[place]) for place in ALONE]
        return {"ids": [audio.sentences[0].token_ids for audio in audios]}

    def first() -> dict[str, Any]:
        start = time.perf_counter()
        stream = voice.infer_stream(TEXT, chunk_size=1)
        count = samples(next(stream))
        seconds = time.perf_counter() - start
        stream.close()
        return {"seconds": seconds, "samples": count}

    def stream() -> dict[str, Any]:
        return {"samples": sum(map(samples, voice.infer_stream(TEXT, chunk_size=8)))}

    return {"one": one, "batch": batch, "alone": alone, "first": first, "stream": stream}


def _ids(count: int) -> list[int]:
    """Audio ids in no order that a cache could know."""
    return [4 + 7919 * place % 8000 for place in range(count)]


def _own_steps(backend: str, model: str, precision: str, threads: int) -> Tasks:
    from soprano import open_backend

    network = open_backend(backend, model, precision, threads)

    def read(count: int) -> Any:
        return network.prefill(np.array([_ids(count)]), np.array([count]))

    def step() -> dict[str, Any]:
        first, stop = CONTEXTS
        output = read(first)
        start = time.perf_counter()
        for number in _ids(stop)[first:]:
            output = network.step(np.array([number]), output.state)
        return {"seconds": (time.perf_counter() - start) / (stop - first)}

    def logits() -> dict[str, Any]:
        output = read(CONTEXTS[0])
        for number in _ids(KNOWN)[CONTEXTS[0] :]:
            output = network.step(np.array([number]), output.state)
        return {"logits": output.logits[0].tolist()}

    return {"step": step, "logits": logits}


def _genai_steps(model: str, threads: int) -> Tasks:
    import onnxruntime_genai as genai

    config = genai.Config(model)
    options = {"intra_op_num_threads": threads}
    config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
    network = genai.Model(config)
    parameters = genai.GeneratorParams(network)
    parameters.set_search_options(max_length=CONTEXTS[1] + 12, do_sample=False)

    def read(ids: list[int]) -> Any:
        generator = genai.Generator(network, parameters)
        generator.append_tokens(np.array(ids, np.int32))
        return generator

    def step() -> dict[str, Any]:
        first, stop = CONTEXTS
        generator = read(_ids(first))
        start = time.perf_counter()
        for number in _ids(stop)[first:]:
            generator.append_tokens(np.array([number], np.int32))
        return {"seconds": (time.perf_counter() - start) / (stop - first)}

    def logits() -> dict[str, Any]:
        generator = read(_ids(CONTEXTS[0]))
        for number in _ids(KNOWN)[CONTEXTS[0] :]:
            generator.append_tokens(np.array([number], np.int32))
        return {"logits": np.asarray(generator.get_logits()).ravel().tolist()}

    return {"step": step, "logits": logits}


def _roofline(threads: int, bytes_read: int) -> Tasks:
    """What the machine can do at best: the quickest of several ways and tries.

    The matrix-vector product reads a buffer as large as the weights.
    """
    import onnx
    import onnxruntime as ort
    import torch
    from onnx import helper, numpy_helper

    torch.set_num_threads(threads)
    generator = np.random.default_rng(0)

    def session(matrix: Any) -> Any:
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "matrix"], ["y"])],
            "product",
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["rows", len(matrix)])],
            [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
            [numpy_helper.from_array(matrix, "matrix")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        return ort.InferenceSession(model.SerializeToString(), options)

    tall = generator.standard_normal((bytes_read // 4 // 2048, 2048), np.float32)
    wide = np.ascontiguousarray(tall.reshape(-1, 512).T)
    vectors = {size: np.ones((1, size), np.float32) for size in (512, 2048)}
    by_runtime, by_torch = session(wide), torch.from_numpy(tall)
    # The decoder's own shape: a window of frames through a pointwise convolution.
    frames = generator.standard_normal((2048, 768), np.float32)
    pointwise = generator.standard_normal((768, 2304), np.float32)
    product = session(pointwise)
    levels = [
        torch.from_numpy(generator.integers(-127, 128, shape).astype(np.int8))
        for shape in ((2048, 768), (768, 2304))
    ]
    operations = 2 * frames.size * pointwise.shape[1]

    def quickest(*ways: Callable[[], Any]) -> float:
        def seconds(way: Callable[[], Any]) -> float:
            start = time.perf_counter()
            way()
            return time.perf_counter() - start

        return min(seconds(way) for way in ways for _ in range(5))

    def rates() -> dict[str, Any]:
        vector = quickest(
            lambda: by_runtime.run(None, {"x": vectors[512]}),
            lambda: by_torch @ torch.from_numpy(vectors[2048][0]),
        )
        return {
            "bytes": tall.nbytes / vector,
            "plain_bytes": tall.nbytes / quickest(lambda: by_torch.sum()),
            "float32": operations
            / quickest(
                lambda: product.run(None, {"x": frames}),
                lambda: torch.from_numpy(frames) @ torch.from_numpy(pointwise),
            ),
            "int8": operations / quickest(lambda: torch._int_mm(*levels)),
        }

    return {"rates": rates}


OPENERS: dict[str, Callable[..., Tasks]] = {
    "voice": _voice,
    "steps": _own_steps,
    "genai steps": _genai_steps,
    "roofline": _roofline,
}

if __name__ == "__main__":
    main()
