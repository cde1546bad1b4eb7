"""Sequences of calls: replaced folders, and voices that are opened, used and closed."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, rule

from soprano.errors import ModelError
from soprano.export.bundle import export_bundle
from soprano.export.replace import replacing
from soprano.synthesis import SopranoTTS

from ..model_folders.checkpoints import SOURCE

pytest.importorskip("onnxruntime")


class Replacement(RuleBasedStateMachine):
    """A folder has the content of its last complete replacement, whatever ended in between."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.target, self.content = self.folder / "bundle", None

    def teardown(self):
        shutil.rmtree(self.folder)

    def require(self):
        """Only the target is there, with the expected content."""
        expected = [] if self.content is None else ["bundle"]
        assert [path.name for path in self.folder.iterdir()] == expected
        if self.content is not None:
            assert (self.target / "content").read_text("utf-8") == self.content

    @rule(content=st.text("ab", max_size=3))
    def replace(self, content):
        with replacing(self.target) as new:
            (new / "content").write_text(content, encoding="utf-8")
        self.content = content
        self.require()

    @rule(content=st.text("ab", max_size=3))
    def fail(self, content):
        with suppress(KeyError), replacing(self.target) as new:
            (new / "content").write_text(content, encoding="utf-8")
            raise KeyError
        self.require()

    @rule()
    def second_exporter(self):
        with suppress(KeyError), replacing(self.target):
            with pytest.raises(ModelError, match="being written"), replacing(self.target):
                pass
            raise KeyError
        self.require()

    @rule(renamed=st.booleans())
    def killed(self, renamed):
        """What a kill leaves: a staging folder, and perhaps the old folder under another name."""
        (self.folder / ".bundle.dead.new").mkdir(exist_ok=True)
        if renamed and self.target.exists():
            self.target.rename(self.folder / ".bundle.dead.old")


class Voices(RuleBasedStateMachine):
    """A voice gives the same samples after any other calls, also of a bundle that is replaced."""

    voices = Bundle("voices")
    expected: dict[str, np.ndarray] = {}  # noqa: RUF012 - by text, the same for every sequence

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())

    def teardown(self):
        shutil.rmtree(self.folder)

    @initialize()
    def export(self):
        self.exported = export_bundle(SOURCE, self.folder / "bundle")

    @rule(target=voices, checkpoint=st.booleans())
    def open(self, checkpoint):
        return SopranoTTS(SOURCE if checkpoint else self.exported, "onnx_cpu", threads=1)

    @rule(voice=consumes(voices))
    def close(self, voice):
        voice.stages.language_model.close()

    @rule()
    def export_again(self):
        export_bundle(SOURCE, self.exported, part="decoder")

    @rule(voice=voices, text=st.sampled_from(["It is hot.", "Hello there!"]))
    def infer(self, voice, text):
        samples = voice.infer(text, max_new_tokens=4, temperature=0.0).samples
        assert np.array_equal(samples, self.expected.setdefault(text, samples))

    @rule(voice=voices, count=st.integers(0, 2))
    def abandon_a_stream(self, voice, count):
        chunks = voice.infer_stream("Hello there!", chunk_size=1, max_new_tokens=4)
        for _ in range(count):
            next(chunks, None)
        chunks.close()


class TestReplacement(Replacement.TestCase):
    settings = settings(max_examples=30, stateful_step_count=12, deadline=None, database=None)


class TestVoices(Voices.TestCase):
    settings = settings(max_examples=4, stateful_step_count=12, deadline=None, database=None)
