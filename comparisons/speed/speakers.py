"""Who is measured: processes that stay open and answer in turns, and whole processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

from comparisons.speed import serve
from comparisons.speed.floors import weight_bytes
from comparisons.speed.models import Models
from soprano.config import ModelConfig

PEER, GENAI, PROCESS, ROOFLINE = "soprano-tts", "ONNX Runtime GenAI", "process", "roofline"
HELLO = "Hello world."
WAV_HEADER = 44  # bytes before the first sample

Answer = dict[str, Any]


class Speaker:
    """A process of `serve.py` in one environment."""

    def __init__(self, python: str, environment: dict[str, str], **order: Any) -> None:
        # `-P`: the folder of the script holds this project, whose package has the peer's name.
        command = [python, "-P", serve.__file__, json.dumps(order)]
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._answer()

    def __call__(self, task: str) -> Answer:
        assert self._process.stdin is not None
        print(json.dumps({"task": task}), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Answer:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._process.args} ended; it could not answer")
        answer: Answer = json.loads(line)
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


class Speakers:
    """All who can be asked, each opened when it is first asked."""

    def __init__(self, models: Models, config: ModelConfig, threads: int) -> None:
        self._models, self._config, self._threads = models, config, threads
        self._open: dict[str, Speaker] = {}

    def __call__(self, who: str, task: str) -> Answer:
        if who == PROCESS:
            return launch(task, self._threads)
        if task == "memory":  # of a process that has done nothing else
            speaker = self._speaker(who)
            answer = speaker("one")
            speaker.close()
            return answer
        role = f"{who}, {task}" if task in ("step", "logits") else who
        if role not in self._open:
            self._open[role] = self._stepper(who) if role != who else self._speaker(who)
        return self._open[role](task)

    def close(self) -> None:
        for speaker in self._open.values():
            speaker.close()
        self._open.clear()

    def _speaker(self, who: str) -> Speaker:
        own, threads = _environment(self._threads), self._threads
        if who == ROOFLINE:
            order = {"serve": "roofline", "threads": threads}
            size = weight_bytes(self._config.language_model)
            return Speaker(sys.executable, own, **order, bytes_read=size)
        if who == PEER:
            model = str(self._models.checkpoint)
            voice = {"backend": "transformers", "device": "cpu", "model_path": model}
            order = {"serve": "voice", "own": False, "threads": threads, **voice}
            return Speaker(self._models.python, _without_this(own), **order)
        backend, precision = who.split()
        model = str(self._models.own(backend, precision))
        voice = {"backend": backend, "model": model, "precision": precision}
        return Speaker(sys.executable, own, serve="voice", own=True, threads=threads, **voice)

    def _stepper(self, who: str) -> Speaker:
        own, threads = _environment(self._threads), self._threads
        name, precision = who.rsplit(" ", 1)
        if name == GENAI:
            model = str(self._models.genai(precision))
            order = {"serve": "genai steps", "model": model, "threads": threads}
            return Speaker(self._models.python, _without_this(own), **order)
        model = str(self._models.own(name, precision))
        order = {"serve": "steps", "backend": name, "model": model, "precision": precision}
        return Speaker(sys.executable, own, **order, threads=threads)


def _environment(threads: int) -> dict[str, str]:
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {**os.environ, **dict.fromkeys(names, str(threads))}


def _without_this(environment: dict[str, str]) -> dict[str, str]:
    """The peer's package has the same name as ours."""
    return {name: value for name, value in environment.items() if name != "PYTHONPATH"}


def launch(task: str, threads: int) -> Answer:
    """Seconds of a whole process: until it has ended, or until the first sound it writes."""
    environment, start = _environment(threads), time.perf_counter()
    if task.startswith("import "):
        # `-P`: no folder is searched but the installed ones and what PYTHONPATH names.
        subprocess.run([sys.executable, "-P", "-c", task], env=environment, check=True)
        return {"seconds": time.perf_counter() - start}
    command = [sys.executable, "-P", "-m", "soprano", "say", HELLO, "--stream", "-o", "-"]
    with subprocess.Popen(
        [*command, "--chunk-size", "1"], env=environment, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        sound = process.stdout.read(WAV_HEADER + 2)
        seconds = time.perf_counter() - start
        process.stdout.read()
    if process.returncode or len(sound) <= WAV_HEADER:
        raise SystemExit("`soprano say` gave no sound")
    return {"seconds": seconds, "process_seconds": time.perf_counter() - start}
