"""Ports as processes: what the client makes of right and wrong answers, and of their end."""

from __future__ import annotations

import sys
import textwrap
import time

import numpy as np
import pytest
from click.testing import CliRunner

from conformance.golden.packs import fixture_models
from conformance.ports import client, wire
from conformance.ports.client import open_process
from conformance.ports.commands import SKELETONS, port
from conformance.ports.process import LIMITS, PortError, PortProcessError
from conformance.ports.wire import PortFailureError, WireError
from soprano.backends import open_backend
from soprano.config import SamplingOptions

V11 = next(path for path in fixture_models() if path.name == "v11")
SERVER = f"{sys.executable} -m conformance.ports.server"

ANSWERS = """
import json, os, sys, time
def write(message):
    sys.stdout.write(json.dumps(message) + "\\n"); sys.stdout.flush()
def hello(number, **more):
    write({"id": number, "result": {"protocol": 1, "name": "wrong", "version": "1",
           "methods": ["prefill_one", "step_one", "decode_one", "normalize"], **more}})
for line in sys.stdin:
    request = json.loads(line); number, method = request.get("id"), request["method"]
    if method == "hello":
        hello(number)
        continue
"""


@pytest.fixture
def wrong(tmp_path):
    """Opens a port that answers `hello`, and then runs some lines of Python for each request."""
    opened = []

    def open_port(lines, seconds=3.0):
        script = tmp_path / f"port{len(opened)}.py"
        script.write_text(ANSWERS + textwrap.indent(textwrap.dedent(lines), "    "))
        opened.append(open_process(f"{sys.executable} {script}", V11, seconds=seconds))
        return opened[-1]

    yield open_port
    for backend in opened:
        backend.close()


def test_a_python_backend_answers_as_in_its_own_process():
    own, remote = open_backend("onnx_cpu", V11), open_process(f"{SERVER} onnx_cpu", V11)
    ids, lengths = np.array([[3, 4, 5], [6, 7, 0]]), np.array([3, 2])
    first, second = own.prefill(ids, lengths), remote.prefill(ids, lengths)
    np.testing.assert_array_equal(second.logits, first.logits)
    forked, third = remote.fork(second.state), remote.prefill(ids, lengths)
    for state in (second.state, remote.select(forked, [0, 1])):
        np.testing.assert_array_equal(
            remote.step(np.array([8, 9]), state).hidden,
            own.step(np.array([8, 9]), own.fork(first.state)).hidden,
        )
    with pytest.raises(PortError, match="consumed"):
        remote.step(np.array([8, 9]), second.state)
    read = [b.verify(ids, lengths, b.fork(s.state)) for b, s in ((own, first), (remote, third))]
    np.testing.assert_array_equal(read[1].logits, read[0].logits)
    cut = remote.truncate(read[1].state, np.array([2, 1]))
    assert remote.capabilities.verify
    assert remote.step(np.array([8, 9]), cut).logits.shape == (2, 91)
    hidden = np.stack([first.hidden, first.hidden], axis=1)
    np.testing.assert_array_equal(
        remote.decode(hidden, np.array([2, 1])), own.decode(hidden, np.array([2, 1]))
    )
    remote.close()


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("os._exit(0)", "ended with status 0"),
        ("os._exit(3)", "ended with status 3"),
        ("os.kill(os.getpid(), 11)", "SIGSEGV"),
        ("sys.stderr.write('no memory\\n'); sys.stderr.flush(); os._exit(1)", "no memory"),
        ("print('loading', flush=True)", "not JSON"),
        ("sys.stdout.write('{\"id\": 2, '); sys.stdout.flush(); os._exit(0)", "no line end"),
        ("write([1, 2])", "must be an object"),
        ("write({'id': 99, 'result': 1})", "id 99 of no request"),
        ("write({'id': [number], 'result': 1})", "of no request"),
        ("write({'id': str(number), 'result': 1})", "id '2' of no request"),
        ("while True: write({'id': number, 'chunk': []})", "too many answers|neither"),
        ("write({'id': number})", "neither result nor error"),
        ("time.sleep(60)", "no answer to normalize within 1 s"),
        ("sys.stdout.close(); os.close(1); time.sleep(60)", "closed its output"),
    ],
)
def test_a_process_that_fails_is_named(wrong, lines, reason):
    backend = wrong(lines, seconds=1.0 if "within" in reason else 5.0)
    start = time.monotonic()
    with pytest.raises(PortProcessError, match=reason):
        backend.normalize("a")
    assert time.monotonic() - start < 8


def test_a_line_without_end_is_cut_off(wrong, monkeypatch):
    monkeypatch.setattr("conformance.ports.process.LONGEST_LINE", 10_000_000)
    backend = wrong("sys.stdout.write('x' * 20_000_000); sys.stdout.flush()", seconds=20)
    with pytest.raises(PortProcessError, match="too long"):
        backend.normalize("a")


@pytest.mark.parametrize(
    ("logits", "reason"),
    [
        ("[0.0] * 90", "must have shape"),
        ("'zeros'", "must be an array"),
        ("[[0.0], [0.0, 1.0]]", "ragged"),
        ("{'dtype': 'float32', 'shape': [91], 'base64': 'AAAA'}", "do not fill"),
        ("{'dtype': 'float8', 'shape': [91], 'base64': ''}", "dtype must be one of"),
        ("{'dtype': 'float32', 'shape': [-1], 'base64': ''}", "list of lengths"),
        ("{'dtype': 'float32', 'shape': [91], 'base64': '?'}", "base64"),
        ("{'dtype': 'float32', 'shape': [91]}", "base64 is missing"),
        ("{'dtype': 'float32', 'shape': [0, 10**30], 'base64': ''}", "do not fill"),
        ("{'dtype': 'float32', 'shape': {'0': 91}, 'base64': ''}", "list of lengths"),
        ("{'dtype': ['float32'], 'shape': [91], 'base64': ''}", "dtype must be one of"),
        ("{'file': ['a'], 'tensor': 1}", "name in the shared folder"),
        ("10**30", "must be an array"),
        ("[10**30] * 91", "numbers only"),
        ("[True] * 91", "numbers only"),
        ("{'file': '../a.safetensors'}", "name in the shared folder"),
        ("{'file': 'a.safetensors'}", "cannot be read"),
        ("[None] * 91", "numbers only"),
    ],
)
def test_arrays_of_a_wrong_form_are_named(wrong, logits, reason):
    result = f"{{'logits': {logits}, 'hidden': [0.0] * 24, 'state': 1}}"
    lines = f"write({{'id': number, 'result': {result}}})"
    backend = wrong(lines)
    with pytest.raises(Exception, match=reason) as caught:
        backend.prefill(np.array([[3]]), np.array([1]))
    assert isinstance(caught.value, WireError) or "shape" in reason


def test_a_port_that_ended_is_started_again_a_few_times(wrong):
    backend = wrong("os._exit(0)")
    for _ in range(3 * client.MOST_FAILURES + 1):
        with pytest.raises(PortFailureError):
            backend.normalize("a")
    with pytest.raises(PortFailureError, match="failed too often"):
        backend.normalize("a")


def test_an_error_is_an_answer_and_the_port_goes_on(wrong):
    backend = wrong("write({'id': number, 'error': {'message': request['params']['text']}})")
    for text in ("first", "second"):
        with pytest.raises(PortError, match=text):
            backend.normalize(text)


@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        ({"protocol": 2}, "protocol version 1"),
        ({"methods": "all"}, "list of names"),
        ({"capabilities": {"wings": True}}, "unknown capabilities wings"),
        ({"capabilities": {"batch": "yes"}}, "capability batch"),
        ({"capabilities": {"max_length": 1e3}}, "capability max_length"),
        ({"capabilities": ["batch"]}, "must be an object"),
        ({"attest": {"threads": 2}}, "value and how"),
        ({"methods": {"prefill_one": True}}, "list of names"),
    ],
)
def test_a_wrong_greeting_is_named(tmp_path, hello, reason):
    script = tmp_path / "port.py"
    script.write_text(ANSWERS.replace("hello(number)\n", f"hello(number, **{hello!r})\n"))
    with pytest.raises(WireError, match=reason):
        open_process(f"{sys.executable} {script}", V11)


@pytest.mark.parametrize(
    ("greeting", "reason"),
    [
        ("os._exit(0)", "ended with status 0"),
        ("print('loading the model'); hello(number)", "is not JSON: b'loading the model"),
        ("hello(number); hello(number); time.sleep(0.5)", "request 1 was answered twice"),
        ("hello(number + 1)", "id 2 of no request"),
        ("write({'id': number, 'result': None})", "protocol version 1"),
        ("write({'id': number, 'error': 'no'})", "no"),
        ("sys.stdout.write('{\"id\": 1'); sys.stdout.flush(); time.sleep(60)", "within 2 s"),
        ("os.close(1); time.sleep(60)", "closed its output|within 2 s"),
        ("time.sleep(60)", "no answer to hello within 2 s"),
    ],
)
def test_a_port_that_fails_in_the_handshake_is_named(tmp_path, monkeypatch, greeting, reason):
    monkeypatch.setattr(LIMITS, "request", 1.0)
    script = tmp_path / "port.py"
    script.write_text(ANSWERS.replace("hello(number)\n", f"{greeting}\n"))
    with pytest.raises((PortFailureError, PortError), match=reason):
        open_process(f"{sys.executable} {script}", V11).normalize("a")


@pytest.mark.parametrize(
    ("stage", "result", "reason"),
    [
        ("loaded_weights", "[1, 2]", "must be an object"),
        ("loaded_weights", "{'decoder': [1]}", "loaded_weights: decoder: .* an object"),
        ("default_options", "'warm'", "must be an object"),
        ("default_options", "{'heat': 1}", "unknown options heat"),
        ("wav", "{'bytes': [300]}", "from 0 to 255"),
        ("wav", "{'bytes': [[1], [2]]}", "from 0 to 255"),
        ("wav", "'UklGRg=='", "has no 'bytes'"),
        ("synthesize", "{'ids': {}, 'samples': []}", "no list 'ids'"),
        ("synthesize_batch", "{}", "must be a list"),
    ],
)
def test_results_of_a_wrong_form_are_named(wrong, stage, result, reason):
    port = wrong(f"write({{'id': number, 'result': {result}}})")._port
    options = [SamplingOptions(), [[0.5]], 1]
    arguments = {"wav": [np.zeros(2), 16000], "synthesize": [[1], *options]}
    arguments["synthesize_batch"] = [[[1]], *options]
    with pytest.raises(WireError, match=reason):
        getattr(client, f"_{stage}")(port, *arguments.get(stage, []))


def test_arrays_survive_the_wire():
    rng = np.random.default_rng(0)
    for array in (
        rng.standard_normal((3, 0, 2)).astype(np.float32),
        np.array([np.nan, np.inf, -0.0], np.float32),
        rng.standard_normal((2, 3)).T,
        np.float32(3.5).reshape(()),
    ):
        back = wire.decode_array(wire.encode_array(array), "array")
        np.testing.assert_array_equal(back, array)
        assert back.dtype == array.dtype


@pytest.mark.parametrize("language", SKELETONS)
def test_skeletons_are_written_once(tmp_path, language):
    arguments = ["init", language, "-o", str(tmp_path)]
    assert CliRunner().invoke(port, arguments).exit_code == 0
    assert CliRunner().invoke(port, arguments).exit_code == 2


def test_the_python_skeleton_opens_and_rejects_every_request(tmp_path):
    CliRunner().invoke(port, ["init", "python", "-o", str(tmp_path)])
    backend = open_process(f"{sys.executable} {tmp_path / 'port.py'}", V11)
    assert backend.name == "my-port"
    with pytest.raises(PortError, match="prefill_one is not written yet"):
        backend.prefill(np.array([[3]]), np.array([1]))
    backend.close()
    with pytest.raises(PortProcessError, match="is closed"):
        backend.prefill(np.array([[3]]), np.array([1]))
