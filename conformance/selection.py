"""Which backends are judged on which models; ports are opened once before any test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from os.path import abspath
from pathlib import Path

import pytest

from conformance.contract.reader import requirements
from conformance.golden.packs import fixture_models, weights_digest
from conformance.judging.records import TestRecord
from conformance.opening import (
    Misfit,
    facts_of,
    graphs,
    open_subject,
    require_all_graphs,
    require_backend,
)
from conformance.options import option
from conformance.subject import Subject
from soprano.backends import BUILT_IN, backend_names, installed_backends
from soprano.checkpoint.folder import ModelFolder, locate
from soprano.errors import ModelError


@dataclass
class Selection:
    """The models that were named, and for each backend the fixture models besides them."""

    named: list[Path]
    fixtures: dict[str, list[Path]]  # by backend
    not_covered: dict[str, dict[str, str]] = field(default_factory=dict)  # backend, model: reason
    suite: list[Path] = field(default_factory=fixture_models)

    @property
    def backends(self) -> list[str]:
        return list(self.fixtures)

    @property
    def third_party(self) -> list[str]:
        return [name for name in self.fixtures if name not in BUILT_IN]

    def models(self, backend: str) -> list[Path]:
        return self.named + self.fixtures[backend]

    def subjects(self) -> list[tuple[str, Path]]:
        return [(name, model) for name in self.fixtures for model in self.models(name)]

    def label(self, model: Path) -> str:
        """The name of a model: that of its folder, and of the one above if two are alike."""
        alike = namesakes(model, {model for _, model in self.subjects()})
        return f"{model.parent.name}-{model.name}" if alike else model.name

    def options(self, backend: str, model: Path) -> list[str]:
        """The options that select one backend on one model, under the same label."""
        alike = sorted(namesakes(model, {other for _, other in self.subjects()}))
        names = [other.name if other in self.suite else str(other) for other in (model, *alike)]
        return ["--backend", backend, *(f"--model={name}" for name in names), "--only-model"]


SELECTION = pytest.StashKey[Selection]()


def namesakes(model: Path, models: Iterable[Path]) -> list[Path]:
    """The other models whose folder has the same name."""
    return [other for other in models if other.name == model.name and other != model]


def select(config: pytest.Config, only: str | None = None) -> Selection:
    """What the options name; `only` is the one model if none is named.

    Raises:
        pytest.UsageError: a name is unknown, or two models have one name.
    """
    backends, named = _backends(config), _named(option(config, "model") or [])
    if not named and only:
        named = _named([only])
    # Benchmarks, which name `only`, are not a judgement: nothing is left out.
    others = [] if only else _uncovered(named)
    chosen = Selection(named, {name: others for name in backends})
    if named and option(config, "only_model"):
        left = dict.fromkeys((model.name for model in others), "--only-model")
        chosen.not_covered = {name: left for name in backends if left}
        chosen.fixtures = {name: [] for name in backends}
    count = Counter(chosen.label(model) for model in {*named, *others})
    if alike := [label for label in count if count[label] > 1]:
        raise pytest.UsageError(f"two models are named {alike[0]}: rename a folder")
    return chosen


def _uncovered(named: list[Path]) -> list[Path]:
    """The fixture models whose weights none of the named models has."""
    known = {_digest(model) for model in named}
    return [path for path in fixture_models() if not known or _digest(path) not in known]


def _digest(model: Path) -> str | None:
    with suppress(ModelError, KeyError, ValueError):  # opening it will tell what is wrong
        return weights_digest(ModelFolder.open(model))
    return None


def _backends(config: pytest.Config) -> list[str]:
    names = option(config, "backend") or installed_backends()
    if not names:
        raise pytest.UsageError("no backend is installed: nothing would be judged")
    for name in names:
        if ":" not in name and name not in backend_names():
            known = ", ".join(backend_names())
            raise pytest.UsageError(f"no backend {name!r}; known: {known}, or package:factory")
    return list(dict.fromkeys(names))


def _named(names: list[str]) -> list[Path]:
    """The models that the option names: folders, folders of models, or fixture models."""
    fixtures = {path.name: path for path in fixture_models()}
    found: list[Path] = []
    for name in names:
        folder = Path(name)
        # An interrupted export leaves a hidden folder.
        inside = sorted(path.parent for path in folder.glob("[!.]*/config.json"))
        try:
            if inside and not (folder / "config.json").exists():
                _require_models(folder, inside)
                found += inside
            else:
                known = None if folder.is_dir() else fixtures.get(name)
                found.append(known or locate(name))
        except ModelError as error:
            raise pytest.UsageError(str(error)) from None
    return list(dict.fromkeys(Path(abspath(path)) for path in found))


def _require_models(folder: Path, inside: list[Path]) -> None:
    """A graph outside the models of a folder would not be judged."""
    hidden = [path for path in folder.iterdir() if path.name.startswith(".")]
    models = {*inside, *hidden}
    if stray := [path for path in graphs(folder) if not models & {path, *path.parents}]:
        raise pytest.UsageError(
            f"{stray[0]} is in no model folder (one with a config.json) and would not be judged"
        )


def open_each(
    config: pytest.Config, subject: Subject, chosen: Selection, note: Callable[[str], None]
) -> None:
    """Open every port on every model, and leave out the fixture models that it cannot open.

    Args:
        note: is told what is being opened, in case the process ends.

    Raises:
        pytest.UsageError: a port cannot be judged: one sentence says why.
    """
    for name in chosen.backends:
        reasons = chosen.not_covered.get(name, {})
        for model in chosen.named:
            if _is_tried(config, name, model) and (why := _try(config, subject, name, model, note)):
                raise pytest.UsageError(f"backend {name} cannot open {model.name}: {why}")
        tried = [model for model in chosen.fixtures[name] if _is_tried(config, name, model)]
        failed = {model.name: _try(config, subject, name, model, note) for model in tried}
        failed = {model: why for model, why in failed.items() if why}
        if failed:
            chosen.not_covered[name] = reasons | failed
            rest = [model for model in chosen.fixtures[name] if model.name not in failed]
            chosen.fixtures[name] = rest
        if not chosen.models(name):
            first, why = next(iter(failed.items()))
            raise pytest.UsageError(f"backend {name} cannot open {first}: {why}")
    note("")


def _is_tried(config: pytest.Config, name: str, model: Path) -> bool:
    """Backends of this package open every fixture model, in the precision of its weights."""
    return name not in BUILT_IN or model not in fixture_models() or option(config, "precision")


def _try(
    config: pytest.Config, subject: Subject, name: str, model: Path, note: Callable[[str], None]
) -> str:
    """Why a port cannot open a model, or ""."""
    note(f"{model.name} on {name}")
    try:
        opened = open_subject(config, subject, name, model)
        require_backend(opened)
        facts_of(opened, model)
        require_all_graphs(opened, model)
        opened.close()
    except Misfit as misfit:
        raise pytest.UsageError(f"backend {name} {misfit}") from None
    except (Exception, SystemExit) as error:  # whatever a port raises
        return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
    return ""


def placeholders(config: pytest.Config, chosen: Selection) -> list[TestRecord]:
    """A record for every selected requirement, before its tests are known."""
    prefixes = tuple(option(config, "requirement") or [""])
    names = [r.id for r in requirements().values() if r.scope == "port"]
    return [
        TestRecord(f"{name} on {subject}", (name,), subject)
        for backend, model in chosen.subjects()
        for subject in [f"{backend}-{chosen.label(model)}"]
        for name in names
        if name.startswith(prefixes)
    ]
