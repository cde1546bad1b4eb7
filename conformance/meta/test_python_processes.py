"""Python ports in a process of their own are judged as in the process of the suite."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis.errors import UnsatisfiedAssumption

from conformance.golden.packs import fixture_models
from conformance.judging.judge import MistrustedError
from conformance.judging.skips import NotDeclared
from conformance.laws.support.memory_orders import memory_orders
from conformance.meta.hostile_ports import ATTACKS
from conformance.ports import python_client, values
from conformance.ports.in_process import open_guarded
from conformance.ports.process import LIMITS, PortError, PortProcessError
from conformance.ports.python_client import open_python_port
from soprano.errors import BackendError

V11 = next(path for path in fixture_models() if path.name == "v11")
PORTS = """
import os, signal, sys, threading, time
import numpy as np
import pytest
from conformance.judging.judge import MistrustedError
from conformance.judging.skips import NotDeclared
from soprano.backends import Capabilities, Output
from soprano.backends.base import PortBackend
from soprano.errors import BackendError

class Port(PortBackend):
    name = "probe"
    def __init__(self, folder, **options):
        super().__init__(folder, **options)
        self.kept, self.barrier, self.result = [], threading.Barrier(2), np.zeros(3, np.float32)
    def prefill_one(self, ids):
        return np.zeros(91), np.zeros(24), None
    step_one = prefill_one
    def decode_one(self, hidden):
        raise NotImplementedError
    def normalize(self, text):
        return eval(text)
    def tap(self, what, *values):
        return getattr(self, what)(*values)
    def layout(self, array):
        address = array.__array_interface__["data"][0]
        return [list(array.strides), array.flags.writeable, array.flags.owndata, array.tolist(),
                str(array.dtype), type(array).__name__]
    def fill(self, array):
        array[...] = 7
    def keep(self, array):
        self.kept.append(array)
    def read(self):
        return [array.tolist() for array in self.kept]
    def write_kept(self):
        self.kept[0][...] = 5
    def extend(self, items):
        items.append(4)
    def own(self):
        return self.result
    def overwrite(self, value):
        self.result[:] = value
    def meet(self):
        self.barrier.wait(20)
        return threading.current_thread() is threading.main_thread()
    def stream(self, ids, options, uniforms, max_new_tokens, chunk_size):
        try:
            for number in ids:
                self.kept.append(number)
                yield np.full(2, number, np.float32)
        finally:
            self.kept.append("closed")
"""


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """A port that does what it is told, in a process of its own."""
    folder = tmp_path_factory.mktemp("probe")
    (folder / "probe_port.py").write_text(PORTS, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield open_python_port("probe_port:Port", V11)
    python_client.close_all()


@pytest.fixture
def probe(opened):
    """The port, which has kept nothing yet."""
    opened.normalize("self.kept.clear()")
    return opened


def test_a_port_sees_the_memory_of_its_arguments(probe):
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    for name, ordered in memory_orders(array):
        layout = [list(ordered.strides), ordered.flags.writeable, ordered.flags.owndata]
        expected = [*layout, array.tolist(), "float32", "ndarray"]
        assert probe.tap("layout", ordered) == expected, name


def test_what_a_port_writes_into_its_arguments_is_seen(probe):
    for name, ordered in memory_orders(np.zeros((2, 3), np.float32)):
        if ordered.flags.writeable:
            probe.tap("fill", ordered)
            assert (ordered == 7).all(), name
    whole = np.zeros(6, np.int64)
    probe.tap("fill", whole[1:-1:2])
    assert whole.tolist() == [0, 7, 0, 7, 0, 0]
    items = [1, 2]
    probe.tap("extend", items)
    assert items == [1, 2, 4]


def test_an_argument_that_is_kept_is_one_for_both_processes(probe):
    array = np.zeros(3, np.float32)
    probe.tap("keep", array)
    array[1] = 2
    assert probe.tap("read") == [[0, 2, 0]]
    probe.tap("write_kept")
    assert (array == 5).all()


def test_a_returned_list_that_the_port_keeps_is_one_for_both_processes(probe):
    found = probe.normalize("self.kept.append([1, 2]) or self.kept[0]")
    found.append(3)
    assert probe.normalize("self.kept[0] + [4]") == [1, 2, 3, 4]
    probe.normalize("self.kept[0].clear() or self.kept[0].append(7)")
    assert found == [7]


def test_a_returned_array_that_is_written_later_changes(probe):
    first = probe.tap("own")
    probe.tap("overwrite", 3)
    assert (first == 3).all()
    del first
    gc.collect()
    probe.tap("overwrite", 4)
    assert (probe.tap("own") == 4).all()


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("None", None),
        ("(1, 'a', [2.5, float('inf')])", (1, "a", [2.5, float("inf")])),
        ("b'ab'", b"ab"),
        ("np.int64(3)", np.int64(3)),
        ("{'a': (1,)}", {"a": (1,)}),
        ("'\\ud800'", "\ud800"),
        ("True", True),
    ],
)
def test_values_keep_their_type(probe, expression, expected):
    found = probe.normalize(expression)
    assert (found, type(found)) == (expected, type(expected))


def test_other_types_arrive_by_name(probe):
    for expression, name in (
        ("object()", "object"),
        ("np.matrix([1])", "matrix"),
        ("np.ma.array([1])", "MaskedArray"),
    ):
        found = probe.normalize(expression)
        assert isinstance(found, values.Foreign)
        assert type(found).__name__ == name


@pytest.mark.parametrize(
    ("expression", "kind", "message"),
    [
        ("int('x')", ValueError, "invalid literal"),
        ("{}['key']", KeyError, "'key'"),
        ("b'\\xff'.decode()", ValueError, "invalid start byte"),
        ("(_ for _ in ()).throw(BackendError('no device'))", BackendError, "no device"),
        ("open('/nowhere')", OSError, "No such file"),
    ],
)
def test_exceptions_keep_their_type_and_message(probe, expression, kind, message):
    with pytest.raises(kind, match=message) as caught:
        probe.normalize(expression)
    assert isinstance(caught.value, PortError)


@pytest.mark.parametrize(
    "expression",
    [
        "pytest.skip('no')",
        "pytest.exit('no')",
        "sys.exit(0)",
        "(_ for _ in ()).throw(NotDeclared('no'))",
        "(_ for _ in ()).throw(MistrustedError('no'))",
        "(_ for _ in ()).throw(KeyboardInterrupt)",
    ],
)
def test_an_exception_that_would_decide_about_a_test_is_a_failure(probe, expression):
    with pytest.raises(PortProcessError, match="the port raised"):
        probe.normalize(expression)
    assert probe.normalize("1") == 1


def test_threads_of_the_caller_call_at_the_same_time(probe):
    found = []
    threads = [threading.Thread(target=lambda: found.append(probe.tap("meet"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [False, False]


def test_a_stream_is_made_as_it_is_read_and_closed_when_it_is_abandoned(probe):
    stream = probe.stream([1, 2, 3], None, [], 3, 1)
    assert next(stream).tolist() == [1, 1]
    probe.tap("keep", np.zeros(0))
    del stream
    gc.collect()
    assert probe.normalize("self.kept[0], self.kept[-1]") == (1, "closed")


def test_a_port_that_ends_is_opened_again(probe):
    with pytest.raises(PortProcessError, match="ended with status 3"):
        probe.normalize("os._exit(3)")
    assert probe.normalize("1") == 1
    state = probe.prefill(np.array([[3]]), np.array([1])).state
    with pytest.raises(PortProcessError):
        probe.normalize("os.kill(os.getpid(), 9)")
    with pytest.raises(PortProcessError, match="kept a state has ended"):
        probe.step(np.array([3]), state)


def test_a_port_that_hangs_is_named_with_its_place(probe, monkeypatch):
    monkeypatch.setattr(LIMITS, "request", 1.0)
    with pytest.raises(PortProcessError, match=r"within 1 s, in .*normalize \(probe_"):
        probe.normalize("time.sleep(60)")


def test_a_port_that_takes_too_much_memory_is_ended(probe, monkeypatch):
    monkeypatch.setattr(LIMITS, "memory", 400.0)
    with pytest.raises(PortProcessError, match="MiB of memory, more than 400"):
        probe.normalize("self.kept.append(np.ones(2**27)), time.sleep(20)")


def test_what_a_port_prints_or_reads_is_not_part_of_a_message(probe):
    assert probe.normalize("(print('{}'), os.write(1, b'[]'), sys.stdin.read())[2]") == ""


def test_the_process_of_a_port_ends_with_that_of_the_suite(tmp_path):
    (tmp_path / "orphan_port.py").write_text(PORTS, encoding="utf-8")
    script = (
        "import os, sys; from conformance.ports.python_client import open_python_port;"
        f"port = open_python_port('orphan_port:Port', {str(V11)!r});"
        "print(port.normalize('os.getpid()'), flush=True); os.kill(os.getpid(), 9)"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    pid, limit = int(result.stdout), time.monotonic() + 10
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < limit:
        time.sleep(0.1)
    assert not os.path.exists(f"/proc/{pid}")


class Raising:
    """A port each of whose members raises one exception, or yields an item before it does."""

    def __init__(self, error):
        self.error = error

    def step_one(self, new_id, cache):
        raise self.error

    def stream(self):
        yield 1
        raise self.error

    @property
    def capabilities(self):
        raise self.error


class OwnSkip(pytest.skip.Exception):
    pass


class OwnAssumption(UnsatisfiedAssumption):
    pass


@pytest.mark.parametrize(
    "error",
    [pytest.skip.Exception(), pytest.xfail.Exception(), pytest.fail.Exception(), NotDeclared(),
     OwnSkip(), OwnAssumption(), MistrustedError("never"), SystemExit(0), KeyboardInterrupt(),
     GeneratorExit(), BaseExceptionGroup("all", [pytest.skip.Exception()])],
    ids=repr,
)  # fmt: skip
def test_an_exception_that_decides_a_test_is_a_failure_in_the_process_of_the_suite(error):
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        port = open_guarded(lambda: Raising(error))
        items = port.stream()
        assert next(items) == 1
        for call in (
            lambda: port.step_one(1, None),
            lambda: next(items),
            lambda: port.capabilities,
        ):
            with pytest.raises(PortProcessError, match=type(error).__name__):
                call()
        with pytest.raises(PortProcessError):
            open_guarded(lambda: port.step_one(1, None))
    finally:
        signal.signal(signal.SIGINT, handler)


def test_other_exceptions_and_members_of_such_a_port_are_its_own():
    port = open_guarded(lambda: Raising(ValueError("an id")))
    with pytest.raises(ValueError, match="an id"):
        port.step_one(1, None)
    assert type(port).__name__ == "Raising"
    assert not hasattr(port, "decode")


@pytest.mark.slow
def test_ports_in_the_process_of_the_suite_that_raise_such_exceptions_do_not_pass(tmp_path):
    names = [f"conformance.meta.hostile_ports:{a}@call" for a in ATTACKS if a.startswith("raises")]
    words = [sys.executable, "-m", "conformance", "run", "--model", "v11", "--only-model"]
    words += ["--requirement=LM-01", "--in-process", *(f"--backend={name}" for name in names)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    report = json.loads((tmp_path / "conformance-report" / "conformance.json").read_text("utf-8"))
    assert done.returncode == 1, done.stdout + done.stderr
    verdicts = {name: own["LM-01"]["verdict"] for name, own in report["results"].items()}
    assert len(verdicts) == len(names)
    assert set(verdicts.values()) <= {"error", "fail"}, verdicts
