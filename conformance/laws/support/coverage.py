"""How cases that take long are distributed over the models of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from conformance.selection import SELECTION
from soprano.backends import Backend
from soprano.checkpoint.folder import ModelFolder

T = TypeVar("T")
CHEAP = 4  # times the cost of the run's cheapest model


def share(request: pytest.FixtureRequest, cases: Sequence[T]) -> Sequence[T]:
    """The cases that the model under test takes: every n-th of them.

    All models of the run whose cost is near that of the cheapest take turns; the others take none.
    A model that is judged alone takes all.
    """
    model, models = request.getfixturevalue("model"), _cheap_models(request)
    return cases[models.index(model) :: len(models)] if model in models else ()


def _cheap_models(request: pytest.FixtureRequest) -> list[Path]:
    """The models that the backend is judged on in this run, without the expensive ones."""
    models = sorted(
        request.config.stash[SELECTION].models(request.node.callspec.params["backend"][0])
    )
    costs = [_cost(model) for model in models]
    return [model for model, cost in zip(models, costs, strict=True) if cost <= CHEAP * min(costs)]


def _cost(model: Path) -> int:
    config = ModelFolder.open(model).config.language_model
    return config.num_hidden_layers * config.hidden_size


def longest(backend: Backend, most: int) -> int:
    """The number of ids of prompt and steps together, `most` unless the backend declares less."""
    return min(most, backend.capabilities.max_length or most)
