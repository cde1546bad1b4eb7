"""Starts soprano-tts in its own environment and reads what it wrote down."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]

PEER = Path(__file__).with_name("peer.py")


@dataclass(frozen=True)
class Utterance:
    """One sentence as another program spoke it: N ids drawn, and what each was drawn from."""

    prompt: list[int]
    drawn: list[int]  # a final [STOP] included
    logits: Float32  # (N, V)
    hidden: Float32  # (N, H)
    samples: Float32
    probabilities: Float32 | None = None  # (N, V), where they were asked for

    def spoken(self, stop: int) -> Float32:
        """The hidden states (T, H) that become sound: all but the one that predicted [STOP]."""
        return self.hidden[:-1] if self.drawn[-1] == stop else self.hidden


class ReadText(NamedTuple):
    """What a program makes of a text before any model sees it."""

    normalized: str
    pieces: list[str]
    ids: list[list[int]]  # of each piece's prompt


class Answers(NamedTuple):
    runs: dict[str, list[Utterance]]
    texts: list[ReadText]


class PeerError(RuntimeError):
    """The other program did not answer; the message is its last words."""


def ask(python: str, model: Path, runs: list[dict[str, Any]], texts: list[str]) -> Answers:
    """Run soprano-tts on a checkpoint.

    Args:
        python: the interpreter of an environment with soprano-tts 0.2.0.
        model: a checkpoint folder.
        runs: what to speak, each the arguments of `peer.Run`.
        texts: what to normalise, split and tokenise.

    Raises:
        PeerError: it ended with an error.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job = {"model": str(model), "runs": runs, "texts": texts}
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        # Neither this project nor the network: only what its own environment holds.
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        environment["HF_HUB_OFFLINE"] = "1"
        command = [python, str(PEER), str(folder / "job.json"), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise PeerError(done.stderr.strip() or f"exit status {done.returncode}")
        texts_read = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
        spoken = {run["name"]: _utterances(folder / f"{run['name']}.npz") for run in runs}
        return Answers(spoken, [ReadText(**answer) for answer in texts_read])


def _utterances(path: Path) -> list[Utterance]:
    found: dict[int, dict[str, Any]] = {}
    with np.load(path) as arrays:
        for key in arrays.files:
            number, quantity = key.split(".")
            values = arrays[key]
            ids = quantity in ("prompt", "drawn")
            found.setdefault(int(number), {})[quantity] = values.tolist() if ids else values
    return [Utterance(**found[number]) for number in sorted(found)]
