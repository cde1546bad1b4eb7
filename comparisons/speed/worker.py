"""A worker that runs and times tasks of one program: of this project, of a peer, or the machine.

It runs in either environment (`soprano` is another package in each), so it imports nothing of
this project but what it measures.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

TEXT = "the quick brown fox jumps over the lazy dog and then it sleeps for a while in the sun."
BATCH = 16
ALONE = (0, 7)  # texts of the batch that are synthesised alone too
CONTEXTS = 20, 500  # of the timed steps
KNOWN = 64  # ids before the logits that are compared

Tasks = dict[str, Callable[[], dict[str, Any]]]


def start(kind: str, **arguments: Any) -> tuple[list[str], Callable[[str], dict[str, Any]]]:
    """The names of the tasks, and a function that runs a task and returns what it measured."""
    tasks = KINDS[kind](**arguments)

    def run(task: str) -> dict[str, Any]:
        start, processor = time.perf_counter(), time.process_time()
        answer = tasks[task]()
        answer.setdefault("seconds", time.perf_counter() - start)
        answer["processor_seconds"] = time.process_time() - processor
        answer["peak_mb"] = _peak_kib() / 1024
        return answer

    return list(tasks), run


def _peak_kib() -> int:
    """The peak resident memory, pages of mapped files included.

    `ru_maxrss` would start at the memory of the process that started this one.
    """
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def _voice(own: bool, threads: int, **arguments: Any) -> Tasks:
    """A `SopranoTTS` of this project or of the peer."""
    if not own:
        import torch

        torch.set_num_threads(threads)
    from soprano import SopranoTTS

    voice: Any = SopranoTTS(**arguments, **({"threads": threads} if own else {}))
    calls = itertools.count()
    texts = [f"{TEXT[:-1]} {letter}." for letter in "abcdefghijklmnop"[:BATCH]]

    def samples(audio: Any) -> int:
        return len(getattr(audio, "samples", audio))

    def one() -> dict[str, Any]:
        audio = voice.infer(TEXT)
        answer: dict[str, Any] = {"samples": samples(audio)}
        if own:
            answer["prompt"] = voice.stages.tokenize(audio.sentences[0].text)
            answer["ids"] = audio.sentences[0].token_ids
        return answer

    def batch() -> dict[str, Any]:
        order = 1 if next(calls) % 2 else -1
        options = {"batch_size": BATCH} if own else {}
        audios = voice.infer_batch(texts[::order], **options)[::order]
        answer: dict[str, Any] = {"samples": sum(map(samples, audios))}
        if own:
            answer["ids"] = [audio.sentences[0].token_ids for audio in audios]
        return answer

    def alone() -> dict[str, Any]:
        audios = [voice.infer(texts[index]) for index in ALONE]
        sentences = [audio.sentences[0] for audio in audios]
        prompts = [voice.stages.tokenize(sentence.text) for sentence in sentences]
        return {"ids": [sentence.token_ids for sentence in sentences], "prompts": prompts}

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
    """Audio ids in an irregular order."""
    return [4 + 7919 * index % 8000 for index in range(count)]


def _steps(
    prefill: Callable[[list[int]], Any],
    step: Callable[[Any, int], Any],
    logits: Callable[[Any], Any],
) -> Tasks:
    """The tasks of a language model, whose functions take and return its state."""

    def extend(state: Any, ids: list[int]) -> Any:
        for number in ids:
            state = step(state, number)
        return state

    def time_step() -> dict[str, Any]:
        first, stop = CONTEXTS
        state = prefill(_ids(first))
        start = time.perf_counter()
        extend(state, _ids(stop)[first:])
        return {"seconds": (time.perf_counter() - start) / (stop - first)}

    def known_logits() -> dict[str, Any]:
        first = CONTEXTS[0]
        state = extend(prefill(_ids(first)), _ids(KNOWN)[first:])
        return {"logits": np.asarray(logits(state)).ravel().tolist()}

    return {"step": time_step, "logits": known_logits}


def _own_steps(backend: str, model: str, precision: str, threads: int) -> Tasks:
    from soprano import open_backend

    network = open_backend(backend, model, precision, threads)
    return _steps(
        lambda ids: network.prefill(np.array([ids]), np.array([len(ids)])),
        lambda output, number: network.step(np.array([number]), output.state),
        lambda output: output.logits,
    )


def _genai_steps(model: str, threads: int) -> Tasks:
    import onnxruntime_genai as genai

    config = genai.Config(model)
    options = {"intra_op_num_threads": threads}
    config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
    network = genai.Model(config)
    parameters = genai.GeneratorParams(network)
    parameters.set_search_options(max_length=CONTEXTS[1] + 12, do_sample=False)

    def append(generator: Any, ids: list[int]) -> Any:
        generator.append_tokens(np.array(ids, np.int32))
        return generator

    return _steps(
        lambda ids: append(genai.Generator(network, parameters), ids),
        lambda generator, number: append(generator, [number]),
        lambda generator: generator.get_logits(),
    )


def _session(matrix: Any, threads: int) -> Any:
    """ONNX Runtime's product of `x` (rows, K) with a matrix (K, N)."""
    import onnx
    import onnxruntime as ort
    from onnx import helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "matrix"], ["y"])],
        "matmul",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["rows", len(matrix)])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(matrix, "matrix")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(model.SerializeToString(), options)


def _fastest(*methods: Callable[[], Any]) -> float:
    """The least seconds of several methods, each tried five times."""

    def seconds(method: Callable[[], Any]) -> float:
        start = time.perf_counter()
        method()
        return time.perf_counter() - start

    return min(seconds(method) for method in methods for _ in range(5))


def _machine(threads: int, bytes_read: int) -> Tasks:
    """The highest rates of this machine: the best of several methods and attempts.

    The matrix-vector product reads a buffer of `bytes_read` bytes, the size of the weights.
    """
    import torch

    torch.set_num_threads(threads)
    generator = np.random.default_rng(0)
    tall = generator.standard_normal((bytes_read // 4 // 2048, 2048), np.float32)
    wide = np.ascontiguousarray(tall.reshape(-1, 512).T)
    vectors = {size: np.ones((1, size), np.float32) for size in (512, 2048)}
    ort_matmul, torch_matrix = _session(wide, threads), torch.from_numpy(tall)
    # As in the decoder: a window of frames through a pointwise convolution.
    frames = generator.standard_normal((2048, 768), np.float32)
    pointwise = generator.standard_normal((768, 2304), np.float32)
    convolution = _session(pointwise, threads)
    codes = [
        torch.from_numpy(generator.integers(-127, 128, shape).astype(np.int8))
        for shape in ((2048, 768), (768, 2304))
    ]
    operations = 2 * frames.size * pointwise.shape[1]

    def rates() -> dict[str, Any]:
        vector = _fastest(
            lambda: ort_matmul.run(None, {"x": vectors[512]}),
            lambda: torch_matrix @ torch.from_numpy(vectors[2048][0]),
        )
        matmul = _fastest(
            lambda: convolution.run(None, {"x": frames}),
            lambda: torch.from_numpy(frames) @ torch.from_numpy(pointwise),
        )
        return {
            "bytes": tall.nbytes / vector,
            "plain_bytes": tall.nbytes / _fastest(lambda: torch_matrix.sum()),
            "float32": operations / matmul,
            "int8": operations / _fastest(lambda: torch._int_mm(*codes)),
        }

    return {"rates": rates}


KINDS: dict[str, Callable[..., Tasks]] = {
    "voice": partial(_voice, True),
    "peer voice": partial(_voice, False),
    "steps": _own_steps,
    "genai steps": _genai_steps,
    "machine": _machine,
}
