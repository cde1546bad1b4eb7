"""What a backend does in a process that was forked after it was opened.

The threads of a runtime do not exist there, so a call may never return. All this happens in
processes of their own: the parent has no thread but those of the backend.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.judging.alone import hand_over, open_channel, result_of
from conformance.ports.process import PortProcessError

FORKS = 8  # some runtimes hang only now and then
SECONDS = 20  # for an answer: a hundred times what one takes
PROMPT, TOKENS = 48, 256  # the decoder's work is divided among threads
SAME, RAISES, NONE = "the outputs of its parent", "raises ", "no answer"
LIMIT = 1e-3  # largest relative difference from the parent's outputs

Outputs = list[npt.NDArray[np.float32]]


def available() -> bool:
    return hasattr(os, "fork")


def factory(name: str) -> str:
    """The name under which the processes open a backend."""
    return name


def answers(backend: str, model: Path, precision: str) -> list[str]:
    """What each forked process answered, up to the first that did not answer."""
    arguments = [factory(backend), str(model), precision, str(SECONDS)]
    found = [str(answer) for answer in result_of(__name__, *arguments)]
    if len(found) < FORKS and not (found and found[-1].startswith(NONE)):
        raise PortProcessError(f"{len(found)} of {FORKS} forked processes answered")
    return found


def _outputs(backend: Any) -> Outputs:
    """Logits, hidden states and spectrum of one prompt, one step and one utterance."""
    model, capabilities = backend.config.language_model, backend.capabilities
    count = min(PROMPT, (capabilities.max_length or PROMPT + 1) - 1)
    ids = np.arange(count, dtype=np.int64)[None] * 7 % model.vocab_size
    first = backend.prefill(ids, np.array([count]))
    second = backend.step(ids[:, -1], first.state)
    hidden = np.linspace(-1, 1, TOKENS * model.hidden_size, dtype=np.float32)
    decode = backend.decode if capabilities.spectrum else backend.decode_audio
    sound = decode(hidden.reshape(1, TOKENS, -1), np.array([TOKENS]))
    return [first.logits, first.hidden, second.logits, second.hidden, sound]


def _fork(backend: Any, expected: Outputs, seconds: float) -> str:
    """The answer of one forked process."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            worst = max(map(_difference, _outputs(backend), expected))
            answer = SAME if worst <= LIMIT else f"other outputs, by a factor of {worst:.2g}"
        except BaseException as error:
            answer = f"{RAISES}{type(error).__name__}: {error}"
        os.write(writer, answer.encode()[:1024])
        os._exit(0)
    os.close(writer)
    answered, _, _ = select.select([reader], [], [], seconds)
    text = os.read(reader, 1024).decode(errors="replace") if answered else ""
    os.close(reader)
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if answered:
        return text or f"{NONE}: it ended with status {os.waitstatus_to_exitcode(status)}"
    return f"{NONE} within {seconds:g} s"


def _difference(actual: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> float:
    """The largest difference in relation to the largest value."""
    if actual.shape != expected.shape or not np.isfinite(actual).all():
        return float("inf")
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def _main(name: str, model: str, precision: str, seconds: str) -> None:
    from soprano.backends import open_backend

    channel = open_channel()
    backend = open_backend(name, model, precision)
    expected, found = _outputs(backend), []
    for _ in range(FORKS):
        found.append(_fork(backend, expected, float(seconds)))
        if found[-1].startswith(NONE):
            break
    hand_over(channel, found)


if __name__ == "__main__":
    _main(*sys.argv[1:])
