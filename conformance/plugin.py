"""The pytest plugin: what is collected, and the fixtures that tests judge through.

`reporting` keeps the ledger.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from conformance import hooks as reporting
from conformance.hooks import ATTESTED, RECORD, requirements_of
from conformance.judging.skips import NotDeclared
from conformance.options import OPTIONS
from conformance.options import option as _option
from conformance.speed import saved_runs as tracking

if TYPE_CHECKING:
    from conformance.golden.packs import Vectors
    from conformance.judging.judge import Judge
    from soprano.backends import Backend
    from soprano.synthesis import SopranoTTS

_PACKAGE = Path(__file__).parent
_BENCH = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance", "conformance of a speech backend")
    for name, settings in OPTIONS.items():
        group.addoption(f"--{name}", dest=f"conformance_{name.replace('-', '_')}", **settings)


@pytest.hookimpl(tryfirst=True)  # before JUnit asks where to write
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "requirement(id): the requirements of the contract it checks"
    )
    config.pluginmanager.register(reporting, "conformance.hooks")
    if config.getoption("--hypothesis-profile", None):
        import conformance.laws.hypothesis_profiles  # noqa: F401 - a profile must be known before it is loaded
    # Benchmarks want a quiet machine: they are collected alone, and only when asked for.
    arguments = config.invocation_params.args
    config.stash[_BENCH] = any(str(argument).startswith("--benchmark") for argument in arguments)
    if config.stash[_BENCH]:
        if config.getoption("numprocesses", None):
            raise pytest.UsageError("benchmarks run alone: leave -n out")
        config.addinivalue_line("python_functions", "bench_")
        config.pluginmanager.register(tracking, "conformance.speed.saved_runs")


def pytest_sessionstart(session: pytest.Session) -> None:
    """What was named must exist, each name of it; said before processes are started to collect."""
    config = session.config
    if _option(config, "backend"):
        _backends(config)
    if _option(config, "model"):
        _models(config)
    if wanted := _option(config, "requirement"):
        from conformance.contract.reader import requirements

        for prefix in wanted:
            if not any(name.startswith(prefix) for name in requirements()):
                raise pytest.UsageError(f"the contract has no requirement named {prefix}")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    own = _PACKAGE in file_path.parents and file_path.match("bench_*.py")
    if own and parent.config.stash[_BENCH]:
        return pytest.Module.from_parent(parent, path=file_path)
    return None


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Benchmarks run without the laws, and the tests of the tests only where they are named."""
    if config.stash[_BENCH] and _PACKAGE in collection_path.parents:
        return True if collection_path.match("test_*.py") else None
    if collection_path == _PACKAGE / "meta":
        return None if any("meta" in str(argument) for argument in config.args) else True
    return None


def _models(config: pytest.Config) -> list[Path]:
    from conformance.golden.packs import fixture_models
    from soprano.checkpoint.folder import locate
    from soprano.errors import ModelError
    from soprano.synthesis import DEFAULT_MODEL

    named = _option(config, "model")
    if not named and config.stash[_BENCH]:
        named = [DEFAULT_MODEL]
    if not named:
        return fixture_models()
    found: list[Path] = []
    own = {path.name: path for path in fixture_models()}
    for name in named:
        # A hidden folder is what an interrupted export leaves.
        inside = sorted(path.parent for path in Path(name).glob("[!.]*/config.json"))
        try:
            found += (
                inside
                if inside and not (Path(name) / "config.json").exists()
                else [own.get(name) or locate(name)]
            )
        except ModelError as error:
            raise pytest.UsageError(str(error)) from None
    return found


def _backends(config: pytest.Config) -> list[str]:
    from soprano.backends import backend_names, installed_backends

    names = _option(config, "backend") or installed_backends()
    if not names:
        raise pytest.UsageError("no backend is installed: nothing would be judged")
    for name in names:
        if ":" not in name and name not in backend_names():
            known = ", ".join(backend_names())
            raise pytest.UsageError(f"no backend {name!r}; known: {known}, or package:factory")
    return list(names)


def _own_stages(config: pytest.Config) -> list[str]:
    """Backends that may bring stages of their own; the built-in ones share the package's."""
    from soprano.backends import backend_names

    return [name for name in _backends(config) if name not in backend_names()[:3]]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if (
        metafunc.definition.get_closest_marker("requirement") is None
        and _PACKAGE not in metafunc.definition.path.parents
    ):
        return  # another project's fixtures may have the same names
    if "backend" in metafunc.fixturenames:
        subjects = [(b, m) for b in _backends(metafunc.config) for m in _models(metafunc.config)]
        if not subjects:
            raise pytest.UsageError("no model: nothing would be judged")
        ids = [f"{name}-{model.name}" for name, model in subjects]
        metafunc.parametrize("backend", subjects, ids=ids, indirect=True, scope="session")
    for fixture in ("text_stage", "token_stage", "sample_stage", "istft_stage"):
        if fixture in metafunc.fixturenames:
            subjects_ = ["shared", *_own_stages(metafunc.config)]
            metafunc.parametrize(fixture, subjects_, indirect=True, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = _option(config, "requirement")
    if not wanted:
        return
    prefixes = tuple(wanted)
    kept = [i for i in items if any(name.startswith(prefixes) for name in requirements_of(i))]
    if not kept:
        raise pytest.UsageError(f"no test checks a requirement named {', '.join(wanted)}")
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


@pytest.fixture(scope="session")
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """The backend under judgement, opened on one model."""
    from soprano.backends import open_backend

    name, model = request.param
    config = request.config
    opened = open_backend(
        name, model, _option(config, "precision") or "fp32", _option(config, "threads")
    )
    config.stash[ATTESTED][f"{name}-{model.name}"] = {
        field: {"value": attested.value, "how": attested.how}
        for field, attested in opened.attest().items()
    }
    yield opened
    opened.close()


_VECTORS: dict[tuple[str, Path, Path | None], Vectors] = {}


@pytest.fixture
def vectors(backend: Backend, request: pytest.FixtureRequest) -> Vectors:
    """The golden vectors of the backend's model; without any, an error."""
    from conformance.golden.packs import find_vectors
    from conformance.golden.rounded_packs import find_source, held_vectors
    from soprano.checkpoint.folder import ModelFolder

    named = _option(request.config, "reference")
    name, model = request.node.callspec.params["backend"]
    reference = Path(named) if named else None
    rounded = backend.capabilities.rounded and not ModelFolder.open(model).has_weights
    key = (name if rounded else "", model, reference)
    if key not in _VECTORS:
        _VECTORS[key] = (
            held_vectors(backend, model, find_source(model, reference))
            if rounded
            else find_vectors(model, reference)
        )
    return _VECTORS[key]


@pytest.fixture
def voice(backend: Backend, request: pytest.FixtureRequest) -> SopranoTTS:
    """The public interface over the backend under judgement."""
    from soprano.synthesis import SopranoTTS

    return SopranoTTS.over(backend, request.node.callspec.params["backend"][1])


def _stage(request: pytest.FixtureRequest, method: str, shared: Any) -> Any:
    """The package's own stage, or the method that a backend brings in its place."""
    if request.param == "shared":
        return shared
    from soprano.backends import open_backend

    opened = open_backend(request.param, _models(request.config)[0])
    if not hasattr(opened, method):
        raise NotDeclared(f"{request.param} brings no {method} of its own")
    return getattr(opened, method)


@pytest.fixture(scope="session")
def text_stage(request: pytest.FixtureRequest) -> Any:
    """`normalize(text)` and `sentences(text)` of the implementation under judgement."""
    from soprano import text

    own = _stage(request, "normalize", text.normalize)

    def sentences(given: str) -> list[str]:
        return text.merge_short(text.split(own(given)))

    return SimpleNamespace(normalize=own, sentences=sentences)


@pytest.fixture(scope="session")
def token_stage(request: pytest.FixtureRequest) -> Any:
    """`(model folder) -> tokenizer` of the implementation under judgement."""
    from soprano.tokenizer import load_tokenizer

    return _stage(request, "tokenize", load_tokenizer)


@pytest.fixture(scope="session")
def sample_stage(request: pytest.FixtureRequest) -> Any:
    """`(logits, history, options, uniform) -> id` of the implementation under judgement."""
    from soprano.sampling import sample

    return _stage(request, "sample", sample)


@pytest.fixture(scope="session")
def istft_stage(request: pytest.FixtureRequest) -> Any:
    """`(spectrum, config, layout, *, length) -> samples` of the implementation under judgement."""
    from soprano.stft import istft

    return _stage(request, "istft", istft)


@pytest.fixture
def judge(request: pytest.FixtureRequest) -> Judge:
    """Compares and records; a test that passes without having compared anything fails."""
    from conformance.judging.judge import Judge

    if "backend" in request.fixturenames:
        _require_declared(request.getfixturevalue("backend"), requirements_of(request.node))
    return Judge(request.node.stash[RECORD])


def _require_declared(backend: Backend, names: tuple[str, ...]) -> None:
    """The capabilities that the contract says a requirement needs."""
    from conformance.contract.reader import requirements

    for name in names:
        row = requirements().get(name)
        for need in row.needs.split() if row else ():
            if not getattr(backend.capabilities, need):
                raise NotDeclared(f"{name} needs {need}, which {backend.name} does not declare")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The real-time factors of the benchmarks that made sound."""
    session = getattr(config, "_benchmarksession", None)
    timed = [b for b in getattr(session, "benchmarks", []) if "rtf" in b.extra_info]
    if timed:
        terminalreporter.section("real-time factor (processing time / audio time)")
    for bench in sorted(timed, key=lambda bench: str(bench.name)):
        rate = bench.extra_info["tokens_per_second"]
        terminalreporter.write_line(
            f"{bench.name:40} {bench.extra_info['rtf']:.4f}  {rate:,.0f} tokens/s"
        )
