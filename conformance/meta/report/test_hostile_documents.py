"""Files that people and other programs write: each of another form is one line with its name."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from conformance.documents import DocumentError, read_document, require_form
from conformance.faults import kill_matrix
from conformance.golden.packs import read_metadata
from conformance.judging.deviations import DeviationError, load_deviations
from conformance.report.commands import report
from conformance.report.documents import read_inputs
from conformance.report.port_table import record, write_table
from conformance.speed.saved_runs import saved_runs
from conformance.vectors.packs import check
from soprano.errors import ModelError

LONGEST = 300
DOCUMENTS = Path(__file__).parent / "documents"
CLAIM = """[[deviation]]
requirement = "LM-01"
subject = "port-*"
owner = "someone"
reason = "float16 weights"
expires = 2030-01-01
bound = 3.5
"""


def hostile(folder):
    """Files of no form, by kind."""
    os.mkfifo(folder / "pipe")
    (folder / "folder").mkdir()
    (folder / "loop").symlink_to("loop")
    (folder / "device").symlink_to("/dev/zero")
    (folder / "empty").write_bytes(b"")
    (folder / "latin").write_bytes(b'{"a": "\xfc"}')
    (folder / "list").write_bytes(b"[1]")
    (folder / "deep").write_bytes(b"[" * 100_000)
    (folder / "deep object").write_bytes(b'{"results": ' * 100_000)
    (folder / "long").write_bytes(b'{"results": "' + b"x" * 5000 + b'", "schema_version": 1}')
    (folder / "number").write_bytes(b'{"results": ' + b"1" * 5000 + b"}")
    with (folder / "sparse").open("wb") as file:
        file.truncate(6 * 10**9)
    return [*sorted(folder.iterdir()), folder / "missing"]


READERS = {
    "document": read_document,
    "report": lambda path: read_inputs([path / "none" if path.is_dir() else path]),
    "deviations": load_deviations,
    "golden pack": read_metadata,
    "vector pack": lambda path: check(path.parent / "pack", path.parent, "port"),
}


@pytest.mark.parametrize("name", READERS)
def test_a_file_of_no_form_is_one_line_that_names_it(tmp_path, name):
    (tmp_path / "files").mkdir()
    for path in hostile(tmp_path / "files"):
        if name == "vector pack":
            pack = path.parent / "pack"
            pack.mkdir(exist_ok=True)
            (pack / "manifest.json").unlink(missing_ok=True)
            (pack / "manifest.json").symlink_to(path)
        if (name, path.name) in (("deviations", "empty"), ("document", "long")):
            continue  # a file of no claims, and one that has an object
        with pytest.raises((DocumentError, DeviationError, ModelError)) as caught:
            READERS[name](path)
        text = str(caught.value)
        assert str(path.parent) in text, path.name
        assert len(text) < LONGEST + len(str(path))
        assert len(text.splitlines()) == 1


def with_value(document, path, value):
    """A copy of a document with another value at one place."""
    copy = json.loads(json.dumps(document))
    *parents, last = path
    node = copy
    for key in parents:
        node = node[key]
    node[last] = value
    return copy


def places(node, path=()):
    """The places of the values in a document, at any depth."""
    for key in node if isinstance(node, dict) else range(len(node)):
        yield (*path, key)
        if isinstance(node[key], (dict, list)):
            yield from places(node[key], (*path, key))


@pytest.mark.parametrize("version", [1, 4])
def test_a_report_with_another_value_anywhere_opens_or_is_rejected(tmp_path, version):
    document = json.loads((DOCUMENTS / f"version_{version}.json").read_text("utf-8"))
    path, rejected = tmp_path / "conformance.json", 0
    for number, place in enumerate(places(document)):
        value = [None, [], {}, "x", -1, 1e999, True][number % 7]
        path.write_text(json.dumps(with_value(document, place, value)), encoding="utf-8")
        result = CliRunner().invoke(report, [str(path), "-f", "text"])
        assert result.exception is None or isinstance(result.exception, SystemExit), (place, value)
        if result.exit_code:
            rejected += 1
            assert str(path) in result.output
            assert len(result.output.splitlines()) == 1
    assert rejected > 20


@pytest.mark.parametrize(
    ("value", "schema", "fault"),
    [
        ({}, {"required": ["a"]}, "'a' must be there, it is missing"),
        ({"a": 1}, {"properties": {"a": {"type": "string"}}}, "'a' must be of type string"),
        ({"a": True}, {"properties": {"a": {"type": "integer"}}}, "must be of type integer"),
        ({"a": float("nan")}, {"properties": {"a": {"type": "number"}}}, "must be of type number"),
        ({"a": 10**400}, {"properties": {"a": {"type": "number"}}}, "must be of type number"),
        ({"a": 3}, {"properties": {"a": {"enum": [1, 2]}}}, "must be one of 1, 2"),
        ({"a": 3}, {"properties": {"a": {"const": 2}}}, "must be 2"),
        ({"a": -1}, {"properties": {"a": {"minimum": 0}}}, "must be at least 0"),
        ({"a": "x"}, {"properties": {"a": {"pattern": "^y"}}}, "must be of the form ^y"),
        ({"a": []}, {"properties": {"a": {"minItems": 1}}}, "must be of minItems 1"),
        ({"a": [1]}, {"properties": {"a": {"items": {"type": "null"}}}}, "a[0]"),
        ({"b": 1}, {"additionalProperties": False}, "'b' must be absent"),
        ({"b": 1}, {"additionalProperties": {"type": "null"}}, "'b' must be of type null"),
        ({"a": 1}, {"properties": {"a": {"oneOf": [{"const": 2}, {"const": 3}]}}}, "must be 3"),
        ({"a": 1}, {"properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": {"const": 0}}},
         "must be 0"),
    ],
)  # fmt: skip
def test_a_value_that_does_not_follow_its_schema_is_named(value, schema, fault):
    with pytest.raises(DocumentError) as caught:
        require_form(value, schema, "file.json")
    assert str(caught.value).startswith("file.json: ")
    assert fault in str(caught.value)


def test_a_document_of_an_earlier_version_may_lack_keys_but_not_have_other_types():
    schema = {"required": ["a"], "properties": {"a": {"type": "integer", "minimum": 1}}}
    for value in ({}, {"b": 1}, {"a": 0}):
        require_form(value, schema, "file.json", strict=False)
    with pytest.raises(DocumentError):
        require_form({"a": "x"}, schema, "file.json", strict=False)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (("3.5", "inf"), "bound is a number over 1"),
        (("3.5", "nan"), "bound is a number over 1"),
        (("3.5", "true"), "bound is a number over 1"),
        (("LM-01", "LM-99"), "no requirement 'LM-99'"),
        (("2030-01-01", "2030-01-01T00:00:00"), "expires of a claim"),
        (("2030-01-01", '"soon"'), "expires of a claim"),
        (("owner", "ownr"), "needs exactly requirement"),
        ((CLAIM, "deviation = 3"), "deviation must be a table"),
        ((CLAIM, "a = 3"), "only [[deviation]] is known"),
        ((CLAIM, "a = [" + "[" * 100_000), "is not TOML"),
    ],
)
def test_a_wrong_claim_is_one_line(tmp_path, change, fault):
    path = tmp_path / "claims.toml"
    path.write_text(CLAIM.replace(*change), encoding="utf-8")
    with pytest.raises(DeviationError) as caught:
        load_deviations(path)
    assert fault in str(caught.value)
    assert len(str(caught.value)) <= LONGEST


def test_other_files_among_saved_benchmarks_are_left_out(tmp_path):
    for number, text in enumerate(("[]", "{}", "{", '{"benchmarks": [{"name": 1}]}')):
        (tmp_path / f"{number}.json").write_text(text, encoding="utf-8")
    assert saved_runs(tmp_path) == []


def test_results_of_faults_of_another_version_are_rejected(tmp_path):
    path = tmp_path / "faults.json"
    assert kill_matrix.read(path) == []
    path.write_text('{"results": [{"id": "a"}]}', encoding="utf-8")
    with pytest.raises(DocumentError, match=r"results\[0\]"):
        kill_matrix.read(path)


def test_the_table_of_ports_rejects_other_documents(tmp_path):
    path, out = tmp_path / "a.json", str(tmp_path / "out")
    for text in ("{}", '{"level": "L9"}', '{"results": [], "schema_version": 5}'):
        path.write_text(text, encoding="utf-8")
        for command, words in ((record, ["--name", "x"]), (write_table, [])):
            result = CliRunner().invoke(command, [str(path), *words, "-o", out])
            assert isinstance(result.exception, DocumentError), result.output
    assert not Path(out).exists()


def test_a_vector_pack_names_no_file_outside_it(tmp_path):
    case = {"name": "split", "requirement": "TX-38", "outputs": {"a": {"limit": None}}}
    manifest = {"schema_version": 1, "model": {"name": "v11"}, "cases": [case], "files": {}}
    for key, value in (("cases", [{**case, "name": "../x"}]), ("files", {"../x": "0" * 64})):
        text = json.dumps({**manifest, key: value})
        (tmp_path / "manifest.json").write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=r"manifest\.json.*(of the form|no file of the pack)"):
            check(tmp_path, tmp_path, "port")


def command(words, **options):
    """A command of the suite, in a process of its own."""
    call = [sys.executable, "-m", "conformance", *words]
    return subprocess.run(call, capture_output=True, text=True, **options)


def test_an_unexpected_error_is_one_line_unless_its_place_is_asked_for(tmp_path):
    words = ["port", "init", "python", "-o", str(tmp_path / "a.txt" / "b")]
    (tmp_path / "a.txt").write_bytes(b"")
    plain = command(words)
    assert (plain.returncode, len(plain.stderr.splitlines())) == (2, 1)
    assert "a.txt" in plain.stderr
    shown = command(["--traceback", *words])
    assert shown.returncode == 2
    assert "Traceback" in shown.stderr


# Ends the command with a signal while its modules are imported.
IMPORTING = """
import os, runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
_, module, number, name, *words = sys.argv
class Finder:
    def find_spec(self, name, *_):
        if name == module:
            os.kill(os.getpid(), getattr(signal, number))
sys.meta_path.insert(0, Finder())
sys.argv = [name, *words]
runpy.run_module(name, run_name="__main__")
"""


@pytest.mark.parametrize(
    ("module", "number", "words"),
    [
        ("conformance.cli", "SIGINT", ["conformance", "port", "init", "c"]),
        ("click", "SIGINT", ["conformance", "port", "init", "c"]),
        ("conformance.report.documents", "SIGINT", ["conformance", "report", "none.json"]),
        ("conformance.report.documents", "SIGTERM", ["conformance", "report", "none.json"]),
        ("conformance.report.documents", "SIGHUP", ["conformance", "report", "none.json"]),
        ("soprano.cli", "SIGINT", ["soprano", "info"]),
        ("onnxruntime", "SIGINT", ["soprano", "info"]),
        ("onnxruntime", "SIGHUP", ["soprano", "info"]),
    ],
)
def test_an_interrupt_during_imports_is_one_line(tmp_path, module, number, words):
    call = [sys.executable, "-c", IMPORTING, module, number, *words]
    done = subprocess.run(call, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 130, done.stderr
    assert done.stderr.strip() == f"{words[0]}: interrupted"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_run_that_hangs_up_leaves_a_report_and_no_process(tmp_path):
    words = [sys.executable, "-m", "conformance", "run", "--backend", "onnx_cpu", "--model", "v11"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as run:
        while not run.stdout.readline().startswith("."):
            assert run.poll() is None
        run.send_signal(signal.SIGHUP)
        run.communicate()
    assert run.returncode == 130
    written = json.loads((tmp_path / "conformance-report" / "conformance.json").read_text("utf-8"))
    assert written["verdict"] in ("no verdict", "does not conform")
