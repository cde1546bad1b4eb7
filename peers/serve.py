"""A synthesiser that times what it is asked for: one JSON object a line in, one out.

It runs in either environment (`soprano` is another package in each), so it imports nothing of
this project but what it measures.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

TEXT = "the quick brown fox jumps over the lazy dog and then it sleeps for a while in the sun."
BATCH = 16


def main() -> None:
    arguments = json.loads(sys.argv[1])
    replies = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # the peer prints while it speaks
        from soprano import SopranoTTS

        speak = _tasks(SopranoTTS(**arguments), own="backend" in arguments and _is_own())
        print(json.dumps({"ready": True}), file=replies, flush=True)
        for line in sys.stdin:
            start, busy = time.perf_counter(), time.process_time()
            told = speak[json.loads(line)["task"]]()
            told.setdefault("seconds", time.perf_counter() - start)
            told["processor_seconds"] = time.process_time() - busy
            told["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(json.dumps(told), file=replies, flush=True)


def _is_own() -> bool:
    import soprano

    return hasattr(soprano, "open_backend")


def _tasks(voice: Any, own: bool) -> dict[str, Callable[[], dict[str, Any]]]:
    def one() -> dict[str, Any]:
        if not own:
            return {"samples": len(voice.infer(TEXT))}
        audio = voice.infer(TEXT)
        return {"samples": len(audio.samples), "ids": audio.sentences[0].token_ids}

    def batch() -> dict[str, Any]:
        texts = [f"{TEXT[:-1]} {'abcdefghijklmnop'[i]}." for i in range(BATCH)]
        options = {"batch_size": BATCH} if own else {}
        return {
            "samples": sum(
                len(audio) for audio in map(_samples, voice.infer_batch(texts, **options))
            )
        }

    def first() -> dict[str, Any]:
        start = time.perf_counter()
        stream = voice.infer_stream(TEXT, chunk_size=1)
        samples = len(_samples(next(stream)))
        seconds = time.perf_counter() - start
        stream.close()
        return {"seconds": seconds, "samples": samples}

    def stream() -> dict[str, Any]:
        return {"samples": sum(len(_samples(c)) for c in voice.infer_stream(TEXT, chunk_size=8))}

    return {"one": one, "batch": batch, "first": first, "stream": stream}


def _samples(audio: Any) -> Any:
    return getattr(audio, "samples", audio)


if __name__ == "__main__":
    main()
