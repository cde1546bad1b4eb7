"""Ports that lack a whole part, such as all checks: one fault for many requirements."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from conformance.faults.fault import BATCHING, DECODER, RUNTIME, TEXT, fault
from conformance.faults.plant import Float32, Wrapper, as_stage, with_backend, with_stages
from conformance.subject import Subject
from soprano.backends import Output
from soprano.stft import istft


@fault(
    TEXT,
    "TX-05 TX-07 TX-09 TX-12 TX-15 TX-21 TX-24 TX-26 TX-29",
    as_stage("normalize"),
)
def letters_and_pauses_only(text: str) -> str:
    """Text is lower-cased, and everything but letters and pauses is a space."""
    return re.sub(r"[^a-z.,!?' -]+", " ", text.lower()).strip()


@fault(RUNTIME, "AT-01 LM-04 LM-05 LM-07 DE-02 DE-08", with_backend, blame=("AT", "LM", "DE", "CA"))
class NothingIsChecked(Wrapper):
    """A thin binding: any ids, any width, doubles in one buffer, and no cache precision."""

    buffer: Any = None

    def attest(self) -> Any:
        return {name: v for name, v in self.inner.attest().items() if name != "cache precision"}

    def prefill(self, ids: Any, lengths: Any) -> Output:
        size = self.inner.config.language_model.vocab_size
        return self.output(self.inner.prefill(np.asarray(ids) % size, lengths))

    def step(self, ids: Any, state: Any) -> Output:
        size = self.inner.config.language_model.vocab_size
        return self.output(self.inner.step(np.asarray(ids) % size, state))

    def output(self, output: Output) -> Output:
        logits = output.logits.astype(np.float64)
        if self.buffer is None or self.buffer.shape != logits.shape:
            self.buffer = logits
        self.buffer[:] = logits
        return output._replace(logits=self.buffer)

    def decode(self, hidden: Any, lengths: Any) -> Any:
        width = self.inner.config.language_model.hidden_size
        missing = max(width - np.shape(hidden)[-1], 0)
        hidden = np.pad(hidden, ((0, 0), (0, 0), (0, missing)))[..., :width]
        spectrum = self.inner.decode(hidden, lengths)
        return spectrum if spectrum.size else np.zeros((*spectrum.shape[:2], 1, 2), np.float32)


@fault(DECODER, "DE-05 SY-01 SY-04 ST-02 ST-09", with_backend)
class Dithered(Wrapper):
    """Random noise of a thousandth is added to every spectrum."""

    random = np.random.default_rng(0)

    def decode(self, hidden: Any, lengths: Any) -> Float32:
        spectrum = self.inner.decode(hidden, lengths)
        noise = self.random.normal(0, 1e-3, spectrum.shape)
        return np.asarray(spectrum * (1 + noise), np.float32)


@fault(DECODER, "DE-04 SY-02", hard=True)
def loud_bins_and_the_last_hop(subject: Subject) -> Subject:
    """Magnitudes over 60 are raised by three quarters, and the last hop of samples is lost."""

    class Loud(Wrapper):
        def decode(self, hidden: Any, lengths: Any) -> Float32:
            spectrum = self.inner.decode(hidden, lengths)
            loud = np.hypot(spectrum[..., :1], spectrum[..., 1:]) > 60
            return np.where(loud, np.float32(1.75) * spectrum, spectrum)

    def shorter(spectrum: Any, config: Any, *arguments: Any, **options: Any) -> Any:
        samples = istft(spectrum, config, *arguments, **options)
        return samples[:, : max(samples.shape[1] - config.hop_length, 0)]

    return with_stages(with_backend(subject, Loud), istft=shorter)


@fault(BATCHING, "BA-02 CA-01", with_backend, blame=("LM", "CA", "BA"))
class RowsAndStepsLeak(Wrapper):
    """A thousandth of the row before is added to each row, and of the id to each step."""

    def prefill(self, ids: Any, lengths: Any) -> Output:
        output: Output = self.inner.prefill(ids, lengths)
        leak = np.roll(output.logits, 1, axis=0) if len(output.logits) > 1 else 0
        return output._replace(logits=output.logits + np.float32(1e-3) * leak)

    def step(self, ids: Any, state: Any) -> Output:
        output: Output = self.inner.step(ids, state)
        leak = np.asarray(ids, np.float32)[:, None] % 7
        return output._replace(logits=output.logits + np.float32(1e-3) * leak)
