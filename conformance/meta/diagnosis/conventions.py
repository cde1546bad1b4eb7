"""Every known wrong convention, planted as a port would have it."""

from __future__ import annotations

import io
import sys
import wave
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from conformance.diagnosis.check import Answer, check
from conformance.faults.plant import Wrapper, with_backend, with_stages
from conformance.golden.observations import hidden_states
from conformance.golden.packs import fixture_models
from conformance.laws.support.own_loops import LIMITS, Limited, stated_positions
from conformance.oracle.istft_conventions import EDGES, ISTFTS
from conformance.oracle.sampler_conventions import SAMPLERS, STOP_BIASES
from conformance.oracle.stage_conventions import CONVERSIONS, STUCK
from conformance.oracle.utterance_conventions import ALIGNMENTS, ASSEMBLIES, LOOPS, Request, run
from conformance.subject import Subject
from conformance.text_profiles import load_profile, profile_names
from soprano.backends import SynthesisResult
from soprano.stages import Stages
from soprano.text import normalize

Array = Any
# Nothing that a model of the family gives shows these.
INVISIBLE = ("a shorter window at the left of the frame", "the envelope clamped at 0.01")
CHUNK = 8


class Convention(NamedTuple):
    """A convention, the stage that it is about, and a subject that follows it."""

    stage: str
    name: str
    subject: Subject
    model: str = "v11"


class Loops(Wrapper):
    """A backend with right loops of its own; each field replaces one step."""

    def __init__(
        self,
        inner: Any,
        stages: Stages,
        *,
        align: Callable[[Array, Array], Array] = lambda prompt, hidden: hidden[:-1],
        assemble: Callable[..., Array] | None = None,
        change: Callable[[Request], Request] = lambda request: request,
        limit: Callable[[Limited, int], Limited] = lambda right, room: right,
        positions: int = 0,
    ) -> None:
        super().__init__(inner)
        self.positions = positions
        self.stages, self.align, self.assemble = stages, align, assemble
        self.change, self.limit = change, limit

    def synthesize(
        self, ids: Sequence[int], options: Any, uniforms: Sequence[float], limit: int
    ) -> SynthesisResult:
        request = Request(list(ids), options, list(uniforms), limit)
        stop = self.config.language_model.eos_token_id
        drawn = [chosen for chosen, _ in run(self.inner, self.change(request))]
        finish = "stop" if drawn[-1:] == [stop] else "length"
        right = Limited([i for i in drawn if i != stop], finish)
        given = self.limit(right, self.positions - len(ids))
        return SynthesisResult(given.ids, self.samples(ids, right.ids), given.finish)

    def samples(self, prompt: Sequence[int], ids: Sequence[int], chunk: int = 0) -> Array:
        hidden = hidden_states(self.inner, prompt, ids)
        before = hidden_states(self.inner, prompt[:1], prompt[1:])[:-1]
        states = self.align(before, hidden)
        if self.assemble is None or not chunk:
            return self.stages.vocode(states)
        per_token = self.config.decoder.samples_per_token
        return np.float32(self.assemble(self.stages.vocode, states, chunk, per_token))

    def stream(
        self, ids: Sequence[int], options: Any, uniforms: Sequence[float], limit: int, chunk: int
    ) -> Iterator[Array]:
        drawn = self.synthesize(ids, options, uniforms, limit).ids
        size = chunk * self.config.decoder.samples_per_token
        samples = self.samples(ids, drawn, chunk)
        for start in range(0, len(samples), size):
            yield samples[start : start + size]


def with_loops(**steps: Any) -> Subject:
    """A subject whose backends have loops of their own."""
    subject = Subject()

    def open_backend(name: str, model: Any, *arguments: Any) -> Any:
        backend = subject.open_backend(name, model, *arguments)
        positions = stated_positions(Path(model)) or 0
        return Loops(backend, subject.stages_of(backend, model), positions=positions, **steps)

    return Subject(open_backend=open_backend)


def with_wav(convert: Callable[[Array], Array]) -> Subject:
    """A subject whose backends write WAV files themselves."""

    def wrap(backend: Any) -> Any:
        wrapped = Wrapper(backend)
        wrapped.wav = partial(_wav, convert)  # type: ignore[attr-defined]
        return wrapped

    return with_backend(Subject(), wrap)


def _wav(convert: Callable[[Array], Array], samples: Array, rate: int) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, rate, len(samples), "NONE", ""))
        writer.writeframes(convert(samples).astype("<i2").tobytes())
    return file.getvalue()


class EdgesKept(Wrapper):
    """A decoder that leaves bins to the ISTFT."""

    bins: tuple[int, ...] = (0, -1)

    def decode(self, hidden: Array, lengths: Array) -> Array:
        spectrum = self.inner.decode(hidden, lengths).copy()
        spectrum[:, list(self.bins)] = spectrum[:, [1]]
        return spectrum


def _edges(*bins: int) -> Subject:
    kind = type("Kept", (EdgesKept,), {"bins": bins})
    return with_backend(Subject(), kind)


def _profile(name: str) -> Callable[..., str]:
    readings = load_profile(name).readings

    def read(text: str, **options: Any) -> str:
        reading = readings.get(text, "")
        if reading is None:
            raise ValueError(text)
        return reading if text in readings else normalize(text, **options)

    return read


def conventions() -> Iterator[Convention]:
    """All of them, in the order of the pipeline."""
    for name in profile_names():
        subject = with_stages(Subject(), normalize=_profile(name))
        yield Convention("normalise", f"the text front end of {name}", subject)
    for name, sampler in {**SAMPLERS, **STOP_BIASES}.items():
        yield Convention("sampler", name, with_stages(Subject(), sample=sampler))
    for name, change in LOOPS.items():
        if name in SAMPLERS:  # they replace the sampler
            continue
        yield Convention("sampler", name, with_loops(change=change))
    for name, rule in STUCK.items():
        yield Convention("generation loop", name, with_stages(Subject(), is_stuck=rule))
    for name, limit in LIMITS.items():
        # Of the fixture models, n600 states fewer positions than a prompt and its tokens have.
        model = "n600" if "max_position_embeddings" in name else "v11"
        yield Convention("generation loop", name, with_loops(limit=limit), model)
    for name, bins in (("DC and Nyquist", (0, -1)), ("DC", (0,)), ("Nyquist", (-1,))):
        yield Convention("decoder", f"{name} left for the ISTFT to zero", _edges(*bins))
    for name, istft in {**ISTFTS, **EDGES}.items():
        if name not in INVISIBLE:
            yield Convention("ISTFT", name, with_stages(Subject(), istft=istft))
    for name, align in ALIGNMENTS.items():
        yield Convention("synthesis", name, with_loops(align=align))
    for name, assemble in ASSEMBLIES.items():
        named = name.format(CHUNK)
        yield Convention("stream", named, with_loops(assemble=assemble))
    for name, convert in CONVERSIONS.items():
        yield Convention("wav", name, with_wav(convert))


def is_named(convention: Convention, answer: Answer) -> bool:
    """Whether the first line of an answer names the stage and the convention."""
    line = answer.first_line()
    return line.startswith(f"{convention.stage}: ") and convention.name in line


def main() -> int:
    """Check each convention; the number of those that are not named."""
    models = {path.name: path for path in fixture_models()}
    missed = tried = 0
    for convention in conventions():
        answer = check(convention.subject, "onnx_cpu", [models[convention.model]], replace=False)
        tried += 1
        if not is_named(convention, answer):
            missed += 1
            print(f"{convention.stage}: {convention.name}: not named: {answer.first_line()}")
    print(f"{tried - missed} of {tried} conventions are named in the first line")
    return missed


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
