"""Runs soprano-tts in its own environment and reads what it recorded."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from conformance.speed.worker_process import WorkerProcess

Float32 = npt.NDArray[np.float32]

WORKER = Path(__file__).with_name("peer_worker.py")


@dataclass(frozen=True)
class Utterance:
    """One sentence as another program synthesised it: N ids and the outputs that precede each."""

    prompt: list[int]
    ids: list[int]  # a final [STOP] included
    logits: Float32  # (N, V)
    hidden: Float32  # (N, H)
    samples: Float32
    probabilities: Float32 | None = None  # (N, V), where they were asked for

    def audio_hidden(self, stop: int) -> Float32:
        """The hidden states (T, H) that are decoded: all but the one that predicts [STOP]."""
        return self.hidden[:-1] if self.ids[-1] == stop else self.hidden


class TextResult(NamedTuple):
    normalized: str
    sentences: list[str]
    prompts: list[list[int]]  # ids of each sentence's prompt


class Answers(NamedTuple):
    runs: dict[str, list[Utterance]]
    texts: list[TextResult]


def query(python: str, model: Path, runs: list[dict[str, Any]], texts: list[str]) -> Answers:
    """Run soprano-tts on a checkpoint.

    Args:
        python: the interpreter of an environment with soprano-tts 0.2.0.
        model: a checkpoint folder.
        runs: what to synthesise, each the arguments of `peer_worker.Run`.
        texts: what to normalise, split and tokenise.

    Raises:
        ChildProcessError: it ended with an error, which the message holds.
    """
    # Its environment must provide its own package `soprano`, and nothing may be downloaded.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        arguments = {"model": str(model), "folder": folder}
        process = WorkerProcess(WORKER, arguments, python=python, environment=environment)
        with closing(process):
            results = process.ask(json.dumps({"runs": runs, "texts": texts}))
        utterances = {run["name"]: _utterances(Path(folder, f"{run['name']}.npz")) for run in runs}
    return Answers(utterances, [TextResult(*result) for result in results])


def _utterances(path: Path) -> list[Utterance]:
    fields: dict[int, dict[str, Any]] = {}
    with np.load(path) as arrays:
        for key in arrays.files:
            number, name = key.split(".")
            values = arrays[key].tolist() if name in ("prompt", "ids") else arrays[key]
            fields.setdefault(int(number), {})[name] = values
    return [Utterance(**fields[number]) for number in sorted(fields)]
