"""The pytest plugin of the suite: its options, what is collected, and its fixtures.

`conformance.hooks` records the evidence and writes the reports.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from conformance import entry_point, hooks
from conformance.hooks import JOURNAL, RECORD, requirements_of
from conformance.judging.skips import NotDeclared
from conformance.options import OPTIONS, OptionError, freeze, option
from conformance.ports.process import LIMITS, MOST_MEMORY, Limits, memory_of_the_machine
from conformance.report.evidence import decode, encode
from conformance.supervisor import INTERRUPTED, JOURNAL_FILE, supervise

if TYPE_CHECKING:
    from conformance.judging.judge import Judge
    from conformance.judging.vectors import Vectors
    from conformance.own_stages import IstftUnderTest, SamplerUnderTest
    from conformance.selection import Selection
    from conformance.subject import Subject
    from conformance.text_profiles import TextUnderTest
    from soprano.backends import Backend
    from soprano.stages import Stages
    from soprano.synthesis import SopranoTTS

_PACKAGE = Path(__file__).parent
_META, _SPEED = _PACKAGE / "meta", _PACKAGE / "speed"
_BENCHMARKS = pytest.StashKey[bool]()
_SUBJECT = pytest.StashKey["Subject"]()
_SELECTED = "conformance_selection"  # the key by which workers of pytest-xdist are told

# A stage fixture is parametrised over the implementations under test: "shared", this package's
# own, where a built-in backend is judged, and every third-party backend.
_STAGE_FIXTURES = ("text_stage", "sentence_stage", "token_stage", "sample_stage", "istft_stage")


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    from conformance.subject import Hooks

    pluginmanager.add_hookspecs(Hooks)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance", "conformance of a speech backend")
    for name, settings in OPTIONS.items():
        group.addoption(f"--{name}", dest=f"conformance_{name.replace('-', '_')}", **settings)


@pytest.hookimpl(tryfirst=True)  # before the JUnit plugin reads its path
def pytest_configure(config: pytest.Config) -> None:
    from conformance.subject import Subject, open_in_process

    config.addinivalue_line(
        "markers", "requirement(id): ids of the requirements that a test checks"
    )
    config.addinivalue_line("markers", "slow: a test of the harness that `tox -e deep` runs")
    config.pluginmanager.register(hooks, "conformance.hooks")
    _require_options(config)
    usual = Subject(open_in_process) if option(config, "in_process") else Subject()
    config.stash[_SUBJECT] = config.hook.pytest_conformance_subject() or usual
    # Benchmarks need a quiet machine: they are collected alone, and only on request.
    arguments = config.invocation_params.args
    config.stash[_BENCHMARKS] = any(str(a).startswith("--benchmark-") for a in arguments)
    if config.stash[_BENCHMARKS]:
        from conformance.speed import saved_runs

        if config.getoption("numprocesses", None):
            raise pytest.UsageError("benchmarks run in one process: omit -n")
        config.addinivalue_line("python_functions", "bench_")
        config.pluginmanager.register(saved_runs, "conformance.speed.saved_runs")


def _require_options(config: pytest.Config) -> None:
    """Read the options and what limits a port, and reject a wrong value with one sentence."""
    from hypothesis import errors, settings

    try:
        freeze(config)
        if named := config.getoption("--hypothesis-profile", None):
            import conformance.hypothesis_profiles  # noqa: F401 - registers the profiles

            settings.get_profile(named)
    except (OptionError, errors.InvalidArgument) as error:
        raise pytest.UsageError(str(error)) from None
    LIMITS.request = option(config, "time_limit") or Limits.request
    LIMITS.memory = option(config, "memory_limit") or memory_of_the_machine() * MOST_MEMORY


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Run the same command in a child process if a port is judged, which may end its process."""
    from soprano.backends import BUILT_IN

    try:
        named = option(config, "backend") or []
    except OptionError as error:
        raise pytest.UsageError(str(error)) from None
    idle = any(config.getoption(name, False) for name in ("collectonly", "usepdb", "trace"))
    if idle or all(name in BUILT_IN for name in named) or not _is_command(config):
        return None
    status = supervise([sys.executable, *sys.orig_argv[1:]])
    return int(pytest.ExitCode.INTERRUPTED) if status == INTERRUPTED else status


def _is_command(config: pytest.Config) -> bool:
    """Whether this process is the command `pytest` or `python -m pytest`, not yet supervised."""
    arguments = list(config.invocation_params.args)
    program = sys.orig_argv[1 : len(sys.orig_argv) - len(arguments)]
    started = program == ["-m", "pytest"] or (len(program) == 1 and Path(*program).stem == "pytest")
    return started and sys.argv[1:] == arguments and JOURNAL_FILE not in os.environ


def pytest_sessionstart(session: pytest.Session) -> None:
    """Reject unknown names, and ports that cannot be judged, before anything is collected."""
    from conformance.selection import SELECTION, open_each, placeholders, select
    from soprano.synthesis import DEFAULT_MODEL

    config = session.config
    if wanted := option(config, "requirement"):
        from conformance.contract.reader import requirements

        for prefix in wanted:
            if not any(name.startswith(prefix) for name in requirements()):
                raise pytest.UsageError(f"the contract has no requirement named {prefix}")
    if named := option(config, "text"):
        from conformance.text_profiles import profile_names

        if named not in profile_names():
            known = ", ".join(profile_names())
            raise pytest.UsageError(f"no text profile {named!r}; known: {known}")
    if hooks.is_worker(config):  # the main process has opened the ports
        config.stash[SELECTION] = decode(config.workerinput[_SELECTED])  # type: ignore[attr-defined]
        return
    chosen = config.stash[SELECTION] = select(
        config, DEFAULT_MODEL if config.stash[_BENCHMARKS] else None
    )
    journal = config.stash[JOURNAL]
    if not config.option.collectonly and not config.stash[_BENCHMARKS]:
        journal.note("select", placeholders(config, chosen))
        hooks.write_report(config)
    open_each(config, config.stash[_SUBJECT], chosen, partial(journal.note, "open"))
    journal.note("leave_out", chosen.not_covered)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist what is selected."""
    from conformance.selection import SELECTION

    node.workerinput[_SELECTED] = encode(node.config.stash[SELECTION])


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    own = file_path.parent == _SPEED and file_path.match("bench_*.py")
    if own and parent.config.stash[_BENCHMARKS]:
        return pytest.Module.from_parent(parent, path=file_path)
    return None


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Benchmarks run without the laws; tests of the harness run only where they are named."""
    if config.stash[_BENCHMARKS] and collection_path.match("test_*.py"):
        return True
    if collection_path == _META:
        named = (
            entry_point.names_module(argument, config.option.pyargs, "conformance.meta")
            for argument in config.args
        )
        return None if any(named) else True
    return None


def _selection(config: pytest.Config) -> Selection:
    from conformance.selection import SELECTION

    return config.stash[SELECTION]


def _implementations(chosen: Selection) -> list[str]:
    """Whose text, tokenizer, sampler and ISTFT are judged."""
    ports = chosen.third_party
    return [*(["shared"] if len(ports) < len(chosen.backends) else []), *ports]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    own = _PACKAGE in metafunc.definition.path.parents
    if not own and metafunc.definition.get_closest_marker("requirement") is None:
        return  # another project's fixtures may have the same names
    chosen = _selection(metafunc.config)
    if "backend" in metafunc.fixturenames:
        subjects = chosen.subjects()
        if not subjects:
            raise pytest.UsageError("no model: nothing would be judged")
        ids = [f"{name}-{chosen.label(model)}" for name, model in subjects]
        metafunc.parametrize("backend", subjects, ids=ids, indirect=True, scope="session")
    for fixture in set(_STAGE_FIXTURES) & set(metafunc.fixturenames):
        metafunc.parametrize(fixture, _implementations(chosen), indirect=True, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = option(config, "requirement")
    if not wanted:
        return
    prefixes = tuple(wanted)
    kept = [i for i in items if any(name.startswith(prefixes) for name in requirements_of(i))]
    if not kept:
        raise pytest.UsageError(f"no test checks a requirement named {', '.join(wanted)}")
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


@pytest.fixture(scope="session")
def subject(request: pytest.FixtureRequest) -> Subject:
    """How the parts under test are made."""
    return request.config.stash[_SUBJECT]


@pytest.fixture(scope="session")
def backend(request: pytest.FixtureRequest, subject: Subject) -> Iterator[Backend]:
    """The backend under test, opened on one model."""
    from conformance.opening import facts_of, open_subject

    name, model = request.param
    opened = open_subject(request.config, subject, name, model)
    label = _selection(request.config).label(model)
    facts = facts_of(opened, model)
    request.config.stash[JOURNAL].note("describe", f"{name}-{label}", facts)
    yield opened
    opened.close()


@pytest.fixture
def model(request: pytest.FixtureRequest) -> Path:
    """The folder of the model that the backend was opened on."""
    folder: Path = request.node.callspec.params["backend"][1]
    return folder


@pytest.fixture
def stages(backend: Backend, model: Path, subject: Subject) -> Stages:
    """The shared pipeline around the backend under test."""
    return subject.stages_of(backend, model)


@pytest.fixture
def voice(stages: Stages, model: Path, subject: Subject) -> SopranoTTS:
    """The public interface to the pipeline under test."""
    return subject.voice(model, stages)


@pytest.fixture(scope="session")
def stages_over(subject: Subject) -> Callable[[Backend], Stages]:
    """The shared pipeline around a backend without a model, such as a scripted one."""
    from conformance.golden.packs import fixture_models

    def make(backend: Backend) -> Stages:
        model = fixture_models()[0]
        shared = _shared_stages(subject, model)
        return subject.stages(replace(shared, language_model=backend, decode=backend.decode))

    return make


def _shared_stages(subject: Subject, model: Path) -> Stages:
    """The shared stages of a model without networks."""
    from soprano.backends import Capabilities
    from soprano.checkpoint.folder import ModelFolder
    from soprano.synthesis import shared_stages

    networks: Any = SimpleNamespace(
        config=ModelFolder.open(model).config, capabilities=Capabilities(), decode=None
    )
    return shared_stages(networks, model, subject.load_tokenizer)


_PACKS: dict[tuple[str, Path, Path | None], Any] = {}


@pytest.fixture
def vectors(
    backend: Backend, model: Path, subject: Subject, request: pytest.FixtureRequest
) -> Vectors:
    """The golden values of the model under test and their limits; without any, an error."""
    from conformance.golden.packs import fitted
    from conformance.golden.rounded_packs import find_rounded_pack, find_source, is_checkpoint
    from conformance.judging.vectors import Vectors
    from soprano.checkpoint.folder import ModelFolder

    named = option(request.config, "reference")
    reference = Path(named) if named else None
    folder = ModelFolder.open(model)
    rounded = backend.capabilities.rounded and (is_checkpoint(folder) or not folder.has_weights)
    name = request.node.callspec.params["backend"][0]
    key = (name if rounded else "", model, reference)
    if key not in _PACKS:
        _PACKS[key] = (
            find_rounded_pack(backend, model, find_source(model, reference))
            if rounded
            else subject.find_pack(model, reference)
        )
    request.node.stash[RECORD].golden = _PACKS[key].source
    return Vectors(fitted(_PACKS[key], backend.capabilities.max_length), backend.config)


def _own(request: pytest.FixtureRequest, method: str, models: int | None = 1) -> list[Backend]:
    """The port whose stage is judged, opened on its first models; none for the shared stage."""
    if request.param == "shared":
        return []
    from conformance.opening import open_subject

    subject = request.getfixturevalue("subject")
    opened = []
    for model in _selection(request.config).models(request.param)[:models]:
        port = open_subject(request.config, subject, request.param, model)
        request.addfinalizer(port.close)
        if not hasattr(port, method):
            raise NotDeclared(f"{request.param} has no {method} of its own")
        opened.append(port)
    return opened


def _implementation(request: pytest.FixtureRequest, method: str, shared: Any) -> Any:
    """The shared stage, or a backend's method in its place."""
    opened = _own(request, method)
    return getattr(opened[0], method) if opened else shared


@pytest.fixture(scope="session")
def shared(subject: Subject, request: pytest.FixtureRequest) -> Stages:
    """The shared stages, for tests that need no networks."""
    return subject.stages(_shared_stages(subject, _selection(request.config).subjects()[0][1]))


@pytest.fixture(scope="session")
def text_stage(request: pytest.FixtureRequest, shared: Stages) -> Any:
    """`normalize(text)` of the implementation under test, and its text profile."""
    return _text_under_test(request, _implementation(request, "normalize", shared.normalize))


def _text_under_test(request: pytest.FixtureRequest, normalize: Any) -> TextUnderTest:
    from conformance.text_profiles import TextUnderTest

    named = None if request.param == "shared" else option(request.config, "text")
    return TextUnderTest(normalize, named)


@pytest.fixture(scope="session")
def sentence_stage(request: pytest.FixtureRequest, shared: Stages) -> Any:
    """`normalize(text)` and `sentences(text)`, where a port may bring both stages or one.

    `profile` is the text profile of its own normaliser.
    """
    own: dict[str, Any] = {"normalize": shared.normalize, "split": shared.split}
    lacking = 0
    for name in own:
        try:
            own[name] = _implementation(request, name, own[name])
        except NotDeclared:
            lacking += 1
    if lacking == len(own):
        raise NotDeclared(f"{request.param} has no normalize and no split of its own")

    def sentences(text: str) -> list[str]:
        return list(own["split"](own["normalize"](text)))

    text = _text_under_test(request, own["normalize"])
    return SimpleNamespace(
        normalize=own["normalize"],
        sentences=sentences,
        profile=text.profile,
        require_judged=text.require_judged,
    )


@pytest.fixture(scope="session")
def token_stage(request: pytest.FixtureRequest, subject: Subject) -> Any:
    """`(model folder) -> tokenizer` of the implementation under test."""
    return _implementation(request, "tokenize", subject.load_tokenizer)


@pytest.fixture(scope="session")
def sample_stage(request: pytest.FixtureRequest, shared: Stages) -> SamplerUnderTest:
    """`(logits, history, options, uniform) -> id` of the implementation under test."""
    from conformance.own_stages import SamplerUnderTest

    opened = _own(request, "sample")
    return SamplerUnderTest(shared, opened[0] if opened else None)


@pytest.fixture(scope="session")
def istft_stage(request: pytest.FixtureRequest, shared: Stages) -> IstftUnderTest:
    """`(spectrum, config) -> samples` of the implementation under test."""
    from conformance.own_stages import IstftUnderTest

    opened = {port.config.decoder.istft: port for port in _own(request, "istft", None)}
    return IstftUnderTest(shared, opened)


@pytest.fixture
def judge(request: pytest.FixtureRequest) -> Iterator[Judge]:
    """Compares and records; a test that passes without a comparison fails."""
    judge = _judge(request)
    yield judge
    judge.require_unchanged()


def _judge(request: pytest.FixtureRequest) -> Judge:
    from conformance.judging.judge import Judge

    if "backend" not in request.fixturenames:
        for name in {"sample_stage", "istft_stage"} & set(request.fixturenames):
            _require_declared(request.getfixturevalue(name), requirements_of(request.node))
        for name in {"text_stage", "sentence_stage"} & set(request.fixturenames):
            request.getfixturevalue(name).require_judged(requirements_of(request.node))
        return Judge(request.node.stash[RECORD])
    opened: Backend = request.getfixturevalue("backend")
    _require_declared(opened, requirements_of(request.node))
    return Judge(request.node.stash[RECORD], opened.config.decoder)


def _require_declared(
    backend: Backend | SamplerUnderTest | IstftUnderTest, names: tuple[str, ...]
) -> None:
    """Skip a test whose requirement needs a capability that the backend does not declare."""
    from conformance.contract.reader import requirements

    for name in names:
        requirement = requirements().get(name)
        for need in requirement.needs.split() if requirement else ():
            if not getattr(backend.capabilities, need):
                raise NotDeclared(f"{name} needs {need}, which {backend.name} does not declare")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The real-time factors of the benchmarks that produced audio."""
    session = getattr(config, "_benchmarksession", None)
    timed = [b for b in getattr(session, "benchmarks", []) if "rtf" in b.extra_info]
    if timed:
        terminalreporter.section("real-time factor (processing time / audio time)")
    for bench in sorted(timed, key=lambda bench: str(bench.name)):
        rate = bench.extra_info["tokens_per_second"]
        terminalreporter.write_line(
            f"{bench.name:40} {bench.extra_info['rtf']:.4f}  {rate:,.0f} tokens/s"
        )
