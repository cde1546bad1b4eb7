"""`python -m peers --peer PYTHON`: this package against soprano-tts, row by row.

All speakers are processes that stay open and speak in turns, round by round; a row is met when the
90 % interval of its median ratio ends at or below its limit.
On a machine that is busy, `--threads 1 --processor-time` compares the work done, not the waiting.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peers import serve
from peers.checkpoint import build
from peers.ratios import median_ratio
from soprano.export.bundle import export_bundle

PEER, OWN = "soprano-tts", "onnx_cpu fp32"
Answers = dict[tuple[str, str], list[dict[str, Any]]]  # of a speaker and task, round by round


class Speaker:
    """A process of `serve.py` in one environment."""

    def __init__(self, python: str, environment: dict[str, str], **voice: Any) -> None:
        # `-P`: the folder of the script holds this project, whose package has the peer's name.
        command = [python, "-P", serve.__file__, json.dumps(voice)]
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._answer()

    def __call__(self, task: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        print(json.dumps({"task": task}), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{' '.join(self._process.args[:3])} ended; it could not speak")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@dataclass(frozen=True)
class Row:
    """One measure: two speakers, what each is asked, what is compared, and the limit."""

    name: str
    ours: str
    task: str
    limit: float
    against: str = PEER
    task_against: str = ""
    measure: str = ""  # default: time


ROWS = (
    Row("one utterance, onnx_cpu fp32", OWN, "one", 0.38),
    Row("one utterance, openvino_cpu fp32", "openvino_cpu fp32", "one", 0.55),
    Row("one utterance, pytorch fp32", "pytorch fp32", "one", 0.75),
    Row("one utterance, onnx_cpu int8", "onnx_cpu int8", "one", 0.16),
    Row("16 texts, onnx_cpu fp32", OWN, "batch", 0.60),
    Row("16 texts, onnx_cpu int8", "onnx_cpu int8", "batch", 0.45),
    Row("first streamed sound, onnx_cpu fp32", OWN, "first", 0.45),
    Row("first streamed sound, onnx_cpu int8", "onnx_cpu int8", "first", 0.22),
    Row("whole stream, onnx_cpu fp32, of offline", OWN, "stream", 1.15, OWN, "one"),
    Row("peak memory, onnx_cpu fp32", OWN, "one", 0.75, measure="peak_mb"),
    Row("peak memory, onnx_cpu int8", "onnx_cpu int8", "one", 0.40, measure="peak_mb"),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m peers", description=__doc__)
    parser.add_argument("--peer", required=True, help="Python of an environment with soprano-tts")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--models", type=Path, help="folder to keep the checkpoint and bundles in")
    parser.add_argument("--threads", type=int, help="of every speaker; default: one a core")
    parser.add_argument("--processor-time", action="store_true", help="in the place of wall time")
    options = parser.parse_args()
    rows = [row for row in ROWS if options.only in row.name]
    seconds = "processor_seconds" if options.processor_time else "seconds"
    met = 0
    print("| measure | ratio (90 % interval) | limit | | medians |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        speakers: dict[str, Speaker] = {}
        for task in dict.fromkeys(row.task for row in rows):
            group = [row for row in rows if row.task == task]
            for name in {name for row in group for name in (row.ours, row.against)}:
                if name not in speakers:
                    folder = options.models or Path(scratch)
                    speakers[name] = _open(name, options.peer, folder, options.threads)
            answers = _speak(group, speakers, options.rounds)
            met += sum(_report(row, answers, seconds) for row in group)
    print(f"{met} of {len(rows)} rows met")
    return 0 if met == len(rows) else 1


def _speak(rows: Sequence[Row], speakers: dict[str, Speaker], rounds: int) -> Answers:
    turns = list(
        dict.fromkeys(
            turn
            for row in rows
            for turn in ((row.ours, row.task), (row.against, row.task_against or row.task))
        )
    )
    answers: Answers = {turn: [] for turn in turns}
    for number in range(rounds):
        shift = number % len(turns)
        for speaker, task in turns[shift:] + turns[:shift]:
            answers[speaker, task].append(speakers[speaker](task))
    return answers


def _report(row: Row, answers: Answers, seconds: str) -> bool:
    measure = row.measure or seconds
    ours, theirs = (
        [answer[measure] for answer in answers[turn]]
        for turn in ((row.ours, row.task), (row.against, row.task_against or row.task))
    )
    ratio = median_ratio(ours, theirs)
    met = ratio.high <= row.limit
    medians = " / ".join(f"{sorted(values)[len(values) // 2]:.2f}" for values in (ours, theirs))
    verdict = "met" if met else "missed"
    print(f"| {row.name} | {ratio} | {row.limit} | {verdict} | {medians} |", flush=True)
    return met


def _open(name: str, peer: str, models: Path, threads: int | None) -> Speaker:
    checkpoint = models / "checkpoint"
    if not checkpoint.exists():
        build(checkpoint)
    environment = dict(os.environ)
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    if name == PEER:
        environment.pop("PYTHONPATH", None)  # its package has the same name
        voice = {"backend": "transformers", "device": "cpu", "model_path": str(checkpoint)}
        return Speaker(peer, environment, **voice)
    backend, precision = name.split()
    model = checkpoint
    if backend != "pytorch":
        model = models / f"{precision}-{backend}"
        if not model.exists():
            export_bundle(checkpoint, model, to=backend.removesuffix("_cpu"), precision=precision)
    voice = {"backend": backend, "model": str(model), "precision": precision, "threads": threads}
    return Speaker(sys.executable, environment, **voice)


if __name__ == "__main__":
    sys.exit(main())
