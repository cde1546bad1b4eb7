"""Documents of every schema version open; text and Markdown contain what failed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from conformance.golden.packs import fixture_models
from conformance.judging.excerpts import MOST, NORMAL, decode, error_quantiles, excerpt
from conformance.judging.waveform import compare_waveforms
from conformance.meta.report.example_runs import FLOOR, LIMIT, evidence
from conformance.report.commands import report
from conformance.report.documents import DocumentError, Run, read_inputs, short_names, upgrade
from conformance.report.json_document import SCHEMA_VERSION, badge, document
from conformance.report.merged import merge
from conformance.report.summary import markdown, text
from soprano.checkpoint.folder import ModelFolder

DOCUMENTS = Path(__file__).parent / "documents"
DECODER = ModelFolder.open(fixture_models()[0]).config.decoder


def run(backend="port:Port", level=1.0, name="run"):
    found = json.loads(json.dumps(document(evidence(backend, DECODER, level)), allow_nan=False))
    return Run(name, found)


def test_there_is_a_document_of_every_earlier_version():
    names = {path.name for path in DOCUMENTS.iterdir()}
    assert names == {f"version_{number}.json" for number in range(1, SCHEMA_VERSION)}


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
def test_a_document_of_an_earlier_version_opens(version):
    jsonschema = pytest.importorskip("jsonschema")
    import conformance.report

    path = DOCUMENTS / f"version_{version}.json"
    original = json.loads(path.read_text("utf-8"))
    assert original["schema_version"] == version
    [opened] = read_inputs([path]).runs
    table = merge([opened])
    found = {
        (name, subject): entry["verdict"]
        for column in table.columns
        for name in table.requirements
        for subject, entry in column.entries(name).items()
    }
    stated = {
        (name, subject): entry["verdict"]
        for subject, own in original["results"].items()
        for name, entry in own.items()
    }
    assert found == stated
    failed = "fail" in stated.values()
    for shown in (text([opened]), markdown([opened])):
        assert ("does not conform" in shown) is failed
        assert ("step logits" in shown) is failed
    schema = json.loads(Path(conformance.report.__path__[0], "schema.json").read_text("utf-8"))
    upgraded = {**opened.document, "schema_version": SCHEMA_VERSION}
    allowed = {**schema["properties"], "results": {}, "margins": {}, "environment": {}}
    relaxed = {**schema, "properties": allowed}
    for own in upgraded["results"].values():
        for entry in own.values():  # the tests of version 1 are not known
            assert {*schema["$defs"]["entry"]["required"]} <= {*entry}
    jsonschema.Draft202012Validator(relaxed).validate(upgraded)


def test_runs_of_all_versions_merge():
    runs = [*read_inputs(sorted(DOCUMENTS.iterdir())).runs, run()]
    titles = [column.title for column in merge(runs).columns]
    assert len(set(titles)) == len(titles) == SCHEMA_VERSION
    assert titles[1] == "port:open_port (version_2)"


@pytest.mark.parametrize("version", [0, SCHEMA_VERSION + 1, "4", None])
def test_an_unknown_version_is_refused(version):
    with pytest.raises(DocumentError, match="schema version"):
        upgrade({"schema_version": version, "results": {}}, "a.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "a.json"), ("[]", "must be a JSON object"), ("{}", "not a conformance.json"),
     ('{"benchmarks": []}', "no run to report")],
)  # fmt: skip
def test_other_files_are_refused_with_one_sentence(tmp_path, content, message):
    (tmp_path / "a.json").write_text(content, encoding="utf-8")
    result = CliRunner().invoke(report, [str(tmp_path / "a.json")])
    assert result.exit_code == 2
    assert message in result.output
    assert len(result.output.splitlines()) == 1


def test_text_and_markdown_name_failures_commands_and_claims():
    runs = [run(), run("other:Port", 1.01)]
    plain, marked = text(runs), markdown(runs)
    assert plain.splitlines()[0] == "does not conform"
    for shown in (plain, marked):
        assert "the level is 1.01 times the expected one" in shown
        assert "test_x::test_3" in shown
        assert "expires 2999-01-01" in shown
    assert "| port:Port | 1 deviation, 3 pass |" in marked
    assert "\\<reason\\>" in marked
    assert "<img" not in marked
    assert len(plain.splitlines()) <= 10


def test_files_of_one_name_are_named_by_where_they_differ():
    paths = [Path(f"/a/{name}/now/report/conformance.json") for name in ("x", "y/z")]
    assert list(short_names([*paths, Path("/b/run/conformance.json")]).values()) == [
        "x", "y/z", "run",
    ]  # fmt: skip


@pytest.mark.parametrize(("level", "shown"), [("L2", "conforms (L2), 3 passed"), (None, "")])
def test_text_and_badge_state_the_level(level, shown):
    found = document(evidence("port:Port", DECODER))
    found["levels"]["port:Port"]["level"] = level
    assert badge(found)["message"] == (shown or "conforms, 3 passed")
    assert (f"{level}: 1 deviation, 3 pass" in text([Run("run", found)])) is bool(level)


def test_a_document_has_errors_audio_and_commands():
    found = run(level=1.01).document
    [(subject, own)] = found["errors"].items()
    assert subject == "port:Port-v11"
    assert set(own) == {"prefill logits", "step logits", "samples"}
    assert own["step logits"]["quantiles"] == pytest.approx(NORMAL, abs=0.4)
    audio = found["audio"][subject]
    assert audio["failed"]
    error = decode(audio["error_scale"], audio["error"])
    expected = decode(audio["scale"], audio["expected"])
    assert error == pytest.approx(0.01 * expected, abs=1e-4)
    entry = found["results"][subject]["SY-01"]
    assert entry["commands"] == {"laws/test_x.py::test_3": evidence_command(3)}
    assert [claim["met"] for claim in found["deviations"]] == [True]


def evidence_command(number):
    return f"python -m pytest --pyargs 'conformance.laws.test_x::test_{number}'"


def test_an_excerpt_is_bounded_and_contains_the_worst_error():
    expected = np.sin(np.arange(200_000) / 9)
    actual = expected.astype(np.float32)
    actual[150_000] += 1
    comparison = compare_waveforms("samples", actual, expected, LIMIT)
    kept = excerpt(comparison, actual, expected, 16_000)
    error = decode(kept.error_scale, kept.error)
    assert len(error) == MOST
    assert kept.start + int(np.abs(error).argmax()) == 150_000


@pytest.mark.parametrize("actual", [None, np.zeros((2, 3), np.float32), np.zeros(0, np.int64)])
def test_what_is_no_audio_has_no_excerpt(actual):
    comparison = compare_waveforms("samples", actual, np.ones(9), LIMIT)
    assert excerpt(comparison, actual, np.ones(9), 16_000) is None


def test_audio_of_another_length_or_not_finite_has_an_excerpt():
    for actual in (np.full(4, np.nan, np.float32), np.ones(5, np.float32)):
        comparison = compare_waveforms("samples", actual, np.ones(9), LIMIT)
        kept = excerpt(comparison, actual, np.ones(9), 16_000)
        assert len(decode(kept.error_scale, kept.error)) == 9


def test_quantiles_are_those_of_the_errors_in_noise_floors():
    expected = np.zeros(100_000)
    actual = 3 * FLOOR * np.random.default_rng(0).standard_normal(expected.size)
    found = np.array(error_quantiles(actual, expected, FLOOR))
    assert found[8:17] == pytest.approx(3 * np.array(NORMAL[8:17]), abs=0.4)
