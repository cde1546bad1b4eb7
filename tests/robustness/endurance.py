"""Many utterances and openings: memory, files and threads of the process stay the same."""

from __future__ import annotations

import gc
import json
import os
from pathlib import Path

import numpy as np

from soprano.backends import installed_backends
from soprano.synthesis import SopranoTTS

from .children import call
from .kills import source

GROWTH = 12.0  # MiB between a fifth of the calls and the last: less than 0.1 for an opening
_TEXTS = ("The train leaves at half past nine.", "It is hot here.", "Who is it? Nobody knows.")
_OPTIONS = {"temperature": 1.0, "max_new_tokens": 8}
_SECONDS = 3600


def measured() -> tuple[int, int, float]:
    """The threads and open files of this process, and its resident memory in MiB."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    threads, files = (len(os.listdir(f"/proc/self/{kind}")) for kind in ("task", "fd"))
    return threads, files, pages * os.sysconf("SC_PAGESIZE") / 2**20


def synthesize(voice: SopranoTTS, number: int) -> None:
    """One utterance, offline, in a batch or streamed."""
    text = _TEXTS[number % len(_TEXTS)]
    if number % 3 == 0:
        voice.infer(text, seed=number, **_OPTIONS)
    elif number % 3 == 1:
        voice.infer_batch([text], seed=number, **_OPTIONS)
    else:
        for _ in voice.infer_stream(text, chunk_size=2, seed=number, **_OPTIONS):
            pass


def utterances(backend: str, count: int) -> str:
    """The measures after a fifth of the utterances of one voice, and after all."""
    voice, seen = SopranoTTS(source(), backend, threads=2), []
    for number in range(count):
        synthesize(voice, number)
        if number + 1 in (count // 5, count):
            seen.append(measured())
    return json.dumps(seen)


def openings(backend: str, count: int) -> str:
    """The measures after a fifth of the openings, each with an utterance, and after all."""
    seen = []
    for number in range(count):
        voice = SopranoTTS(source(), backend, threads=2)
        voice.infer(_TEXTS[0], max_new_tokens=2)
        voice.stages.language_model.close()
        del voice
        if number + 1 in (count // 5, count):
            seen.append(measured())
    return json.dumps(seen)


def run(count: int, opened: int) -> list[str]:
    """Both on every backend, each in a process of its own. Returns the faults."""
    faults = []
    for backend in installed_backends():
        for what, number, job in (
            ("utterances", count, utterances),
            ("openings", opened, openings),
        ):
            outcome = call(lambda b=backend, n=number, j=job: j(b, n), (), _SECONDS)  # type: ignore[misc]
            print(f"{backend}, {number} {what}: {outcome.text}", flush=True)
            if outcome.kind != "done":
                faults.append(f"{backend} {what}: {outcome}")
                continue
            first, last = np.array(json.loads(outcome.text))
            if (first[:2] != last[:2]).any() or last[2] - first[2] > GROWTH:
                faults.append(f"{backend} {what}: {first} -> {last}")
    return faults
