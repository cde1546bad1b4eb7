"""The programs that are measured: workers that stay open, and whole processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import closing
from typing import Any

from comparisons.speed import worker
from comparisons.speed.models import Models
from comparisons.speed.roofline import weight_bytes
from conformance.speed.worker_process import WorkerProcess
from soprano.config import ModelConfig

PEER, GENAI, PROCESS, MACHINE = "soprano-tts", "ONNX Runtime GenAI", "process", "machine"
HELLO = "Hello world."
WAV_HEADER = 44  # bytes before the first sample

Answer = dict[str, Any]


class Programs:
    """Runs tasks; each program is started by its first task.

    A program of ours is named by backend and precision, as `onnx_cpu int8`, with the class of its
    draft where it has one, as `onnx_cpu fp32+int8`.
    """

    def __init__(self, models: Models, config: ModelConfig, threads: int) -> None:
        self._models, self._config, self._threads = models, config, threads
        self._workers: dict[tuple[str, str], WorkerProcess] = {}

    def run(self, program: str, task: str) -> Answer:
        if program == PROCESS:
            return time_process(task, self._threads)
        if task == "memory":  # of a process that has done nothing else
            with closing(self._start(program, task)) as process:
                answer: Answer = process.ask("one")
            return answer
        key = program, task if task in ("step", "logits") else ""
        if key not in self._workers:
            self._workers[key] = self._start(program, task)
        answer = self._workers[key].ask(task)
        return answer

    def close(self) -> None:
        for process in self._workers.values():
            process.close()
        self._workers.clear()

    def _start(self, program: str, task: str) -> WorkerProcess:
        if program == MACHINE:
            size = weight_bytes(self._config.language_model)
            return self._worker({"kind": "machine", "bytes_read": size})
        if program == PEER:
            voice = {"backend": "transformers", "device": "cpu"}
            voice["model_path"] = str(self._models.checkpoint)
            return self._worker({"kind": "peer voice", **voice}, self._models.python)
        name, precision = program.rsplit(" ", 1)
        if name == GENAI:
            model = str(self._models.genai(precision))
            return self._worker({"kind": "genai steps", "model": model}, self._models.python)
        kind = "steps" if task in ("step", "logits") else "voice"
        precision, _, draft = precision.partition("+")
        arguments = {"kind": kind, "backend": name, "precision": precision}
        arguments["model"] = str(self._models.own(name, precision))
        if draft:
            arguments["draft"] = str(self._models.own(name, draft))
        return self._worker(arguments)

    def _worker(self, arguments: dict[str, Any], python: str = sys.executable) -> WorkerProcess:
        environment = _environment(self._threads)
        if python != sys.executable:
            environment.pop("PYTHONPATH", None)  # the peer's package has the same name as ours
        arguments["threads"] = self._threads
        return WorkerProcess(worker.__file__, arguments, python=python, environment=environment)


def _environment(threads: int) -> dict[str, str]:
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {**os.environ, **dict.fromkeys(names, str(threads))}


def time_process(task: str, threads: int) -> Answer:
    """Seconds of a whole process: an import until it ends, or `say` until its first sample."""
    environment, start = _environment(threads), time.perf_counter()
    if task.startswith("import "):
        # -P: the current folder does not go onto the import path.
        subprocess.run([sys.executable, "-P", "-c", task], env=environment, check=True)
        return {"seconds": time.perf_counter() - start}
    command = [sys.executable, "-P", "-m", "soprano", "say", HELLO, "--stream", "-o", "-"]
    with subprocess.Popen(
        [*command, "--chunk-size", "1"], env=environment, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        audio = process.stdout.read(WAV_HEADER + 2)
        seconds = time.perf_counter() - start
        process.stdout.read()
    if process.returncode or len(audio) <= WAV_HEADER:
        raise SystemExit("`soprano say` wrote no audio")
    return {"seconds": seconds, "process_seconds": time.perf_counter() - start}
