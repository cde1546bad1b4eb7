"""The pytest plugin: options, the backend and stage fixtures, and the ledger of evidence."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conformance.ledger import Judge, TestRecord
    from conformance.vectors import Vectors
    from soprano.backends import Backend
    from soprano.synthesis import SopranoTTS

_OPTIONS: dict[str, dict[str, Any]] = {
    "backend": {"action": "append", "metavar": "NAME", "help": "backend to judge (repeatable)"},
    "model": {"action": "append", "metavar": "DIR", "help": "model, bundle, or folder of them"},
    "reference": {"metavar": "DIR", "help": "checkpoint whose float64 values are expected"},
    "precision": {"default": None, "help": "precision class to open the model in (fp32)"},
    "threads": {"type": int, "help": "threads of the backend's runtime"},
    "requirement": {"action": "append", "metavar": "ID", "help": "only these (prefix allowed)"},
    "report-dir": {"metavar": "DIR", "help": "where to write conformance.json"},
    "checkout": {"metavar": "DIR", "help": "for the tests of the tests: the project's checkout"},
}
_PACKAGE = Path(__file__).parent
_RECORDS = pytest.StashKey[list["TestRecord"]]()
_RECORD = pytest.StashKey["TestRecord"]()
_ATTESTED = pytest.StashKey[dict[str, Any]]()
_BENCH = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance", "conformance of a speech backend")
    for name, settings in _OPTIONS.items():
        group.addoption(f"--{name}", dest=f"conformance_{name.replace('-', '_')}", **settings)


def _option(config: pytest.Config, name: str) -> Any:
    """An option, else its environment variable (several values are separated by commas)."""
    value = config.getoption(f"conformance_{name}")
    if value is not None:
        return value
    text = os.environ.get(f"CONFORMANCE_{name.upper()}")
    if not text:
        return None
    if name in ("backend", "model", "requirement"):
        return text.split(",")
    return int(text) if name == "threads" else text


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "requirement(id): the requirements of the contract it checks"
    )
    config.stash[_RECORDS] = []
    config.stash[_ATTESTED] = {}
    # Benchmarks want a quiet machine: they are collected alone, and only when asked for.
    arguments = config.invocation_params.args
    config.stash[_BENCH] = any(str(argument).startswith("--benchmark") for argument in arguments)
    if config.stash[_BENCH]:
        config.addinivalue_line("python_functions", "bench_")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    own = file_path.parent == _PACKAGE and file_path.match("bench_*.py")
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
    from conformance.vectors import fixture_models
    from soprano.errors import ModelError
    from soprano.model import locate
    from soprano.synthesis import DEFAULT_MODEL

    named = _option(config, "model")
    if not named and config.stash[_BENCH]:
        named = [DEFAULT_MODEL]
    if not named:
        return fixture_models()
    found: list[Path] = []
    for name in named:
        inside = sorted(path.parent for path in Path(name).glob("*/config.json"))
        try:
            found += (
                inside if inside and not (Path(name) / "config.json").exists() else [locate(name)]
            )
        except ModelError as error:
            raise pytest.UsageError(str(error)) from None
    return found


def _backends(config: pytest.Config) -> list[str]:
    from soprano.backends import installed_backends

    names = _option(config, "backend") or installed_backends()
    if not names:
        raise pytest.UsageError("no backend is installed: nothing would be judged")
    return list(names)


def _own_stages(config: pytest.Config) -> list[str]:
    """Backends that may bring stages of their own; the built-in ones share the package's."""
    from soprano.backends import backend_names

    return [name for name in _backends(config) if name not in backend_names()[:3]]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.definition.path.parent != _PACKAGE:
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
    kept = [item for item in items if any(r.startswith(tuple(wanted)) for r in _requirements(item))]
    if not kept:
        raise pytest.UsageError(f"no test checks a requirement named {', '.join(wanted)}")
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def _requirements(item: pytest.Item) -> tuple[str, ...]:
    return tuple(r for mark in item.iter_markers("requirement") for r in mark.args)


@pytest.fixture(scope="session")
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """The backend under judgement, opened on one model."""
    from soprano.backends import open_backend

    name, model = request.param
    config = request.config
    opened = open_backend(
        name, model, _option(config, "precision") or "fp32", _option(config, "threads")
    )
    config.stash[_ATTESTED][f"{name}-{model.name}"] = {
        field: {"value": attested.value, "how": attested.how}
        for field, attested in opened.attest().items()
    }
    yield opened
    opened.close()


_VECTORS: dict[tuple[Path, Path | None], Vectors] = {}


@pytest.fixture
def vectors(backend: Backend, request: pytest.FixtureRequest) -> Vectors:
    """The golden vectors of the backend's model; without any, an error."""
    from conformance.vectors import find_vectors

    named = _option(request.config, "reference")
    key = (request.node.callspec.params["backend"][1], Path(named) if named else None)
    if key not in _VECTORS:
        _VECTORS[key] = find_vectors(*key)
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
        pytest.skip(f"{request.param} uses the shared stage")
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
    from soprano.istft import istft

    return _stage(request, "istft", istft)


@pytest.fixture
def judge(request: pytest.FixtureRequest) -> Judge:
    """Compares and records; a test that passes without having compared anything fails."""
    from conformance.ledger import Judge

    return Judge(request.node.stash[_RECORD])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Any:
    from conformance.ledger import TestRecord

    if _PACKAGE in item.path.parents:
        item.stash[_RECORD] = TestRecord(item.nodeid, _requirements(item), _subject(item))
        item.config.stash[_RECORDS].append(item.stash[_RECORD])
    return (yield)


def _subject(item: pytest.Item) -> str:
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    if "backend" in parameters:
        name, model = parameters["backend"]
        return f"{name}-{model.name}"
    stages = [value for name, value in parameters.items() if name.endswith("_stage")]
    return stages[0] if stages else "shared"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report: pytest.TestReport = yield
    record = item.stash.get(_RECORD, None)
    if record is None:
        return report
    if report.when == "call" and report.passed and not record.comparisons and record.requirements:
        report.outcome = "failed"
        report.longrepr = "the test passed without having compared anything"
    _enter_verdict(record, report, call)
    if report.failed and report.when == "call":
        report.sections.append(("repeat with", _repeat_command(item)))
        attested = item.config.stash[_ATTESTED].get(record.subject, {})
        text = ", ".join(f"{name} {field['value']}" for name, field in attested.items())
        report.sections.append(("effective configuration", f"{record.subject}: {text}"))
    return report


def _enter_verdict(
    record: TestRecord, report: pytest.TestReport, call: pytest.CallInfo[None]
) -> None:
    from conformance.ledger import MistrustedError

    if report.skipped:
        record.verdict, record.message = "not-applicable", str(report.longrepr)
    elif report.failed:
        mistrusted = call.excinfo is not None and call.excinfo.errisinstance(MistrustedError)
        record.verdict = (
            "error" if report.when != "call" else "mistrusted" if mistrusted else "fail"
        )
        record.message = str(call.excinfo.value) if call.excinfo else str(report.longrepr)
    elif report.when == "call":
        record.verdict = "tie" if record.ties else "pass"


def _repeat_command(item: pytest.Item) -> str:
    arguments = " ".join(str(argument) for argument in item.config.invocation_params.args)
    return f"pytest {arguments} -k '{item.name}'"


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    from conformance.ledger import document, summarize, write

    _report_factors(terminalreporter, config)
    records = [record for record in config.stash[_RECORDS] if record.requirements]
    if not records:
        return
    terminalreporter.section("conformance by requirement")
    for name, entry in summarize(records).items():
        nearest = entry["nearest"]
        share = (
            f"{nearest['quantity']}: worst {nearest['worst']:.3g} of {nearest['limit']:.3g}"
            if (nearest and isinstance(nearest["worst"], float) and nearest["limit"])
            else ""
        )
        terminalreporter.write_line(
            f"{name:8} {entry['verdict']:14} {entry['tests']:4} tests "
            f"{entry['elements']:>12,} compared  {share}"
        )
    folder = _option(config, "report_dir")
    if folder:
        content = document(records, _environment(), config.stash[_ATTESTED])
        write(Path(folder) / "conformance.json", content)


def _report_factors(terminalreporter: Any, config: pytest.Config) -> None:
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


def _environment() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in ("soprano-conformance", "numpy", "onnxruntime", "openvino", "torch"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
