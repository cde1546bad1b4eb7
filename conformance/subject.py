"""What a run judges, as a value: a planted fault replaces one of its fields."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from conformance.golden.packs import Pack, find_pack
from soprano.backends import Backend, open_backend
from soprano.stages import Stages
from soprano.synthesis import SopranoTTS, shared_stages
from soprano.tokenizer import Tokenizer, load_tokenizer


def open_voice(model: Path, stages: Stages) -> SopranoTTS:
    return SopranoTTS(model, stages=stages)


@dataclass(frozen=True)
class Subject:
    """How the parts under test are made."""

    open_backend: Callable[..., Backend] = open_backend  # name, model, precision, threads
    load_tokenizer: Callable[[Path], Tokenizer] = load_tokenizer
    stages: Callable[[Stages], Stages] = lambda stages: stages  # changes the shared pipeline
    voice: Callable[[Path, Stages], SopranoTTS] = open_voice  # model, stages
    find_pack: Callable[[Path, Path | None], Pack] = find_pack  # model, reference

    def stages_of(self, backend: Backend, model: Path) -> Stages:
        """The pipeline of a backend and a model."""
        return self.stages(shared_stages(backend, model, self.load_tokenizer))


class Hooks:
    """Hooks of this plugin that another plugin may implement."""

    @pytest.hookspec(firstresult=True)
    def pytest_conformance_subject(self) -> Subject | None:
        """The subject of the run, in place of `Subject()`."""
