"""TX, CK, SY: the options of text, the normaliser of a model folder, and texts without words."""

import json
import shutil

import pytest

from conformance.golden.packs import fixture_models
from soprano import SopranoTTS
from soprano.errors import ModelError
from soprano.text import normalize

V11 = next(path for path in fixture_models() if path.name == "v11")


@pytest.fixture(scope="module")
def voice():
    return SopranoTTS(V11)


@pytest.fixture
def stating(tmp_path):
    """`stating(name)`: a model folder that names a normaliser."""

    def copy(name):
        folder = shutil.copytree(V11, tmp_path / "model")
        document = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        document["soprano_normalizer"] = name
        (folder / "config.json").write_text(json.dumps(document), encoding="utf-8")
        return folder

    return copy


def spoken(audio):
    return [sentence.text for sentence in audio.sentences]


@pytest.mark.requirement("TX-63")
@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("A hard\nwrapped line.", "a hard wrapped line."),
        ("Cut at the re-\nduced line\nhere", "cut at the reduced line here."),
        ("One\ntwo\n\nThree\nfour\n\n\nFive", "one two. three four. five."),
        ("One\r\ntwo\r\n \t\r\nThree", "one two. three."),
        ("25\n000 is 2\u2029Next", "twenty-five thousand is two. next."),
    ],
)
def test_with_paragraphs_only_a_blank_line_ends_a_sentence(judge, text, normalised):
    judge.equal("normalised text", normalize(text, paragraphs=True), normalised)


@pytest.mark.requirement("TX-63")
@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("<b>so</b>", "less than b greater than so less than slash b greater than."),
        ("R &amp; D", "r and amp, d."),
        ("> so", "greater than so."),
        ("[so](a.org)", ", so, a dot org."),
    ],
)
def test_markup_that_is_kept_is_read_as_text(judge, text, normalised):
    judge.equal("normalised text", normalize(text, keep_markup=True), normalised)


@pytest.mark.requirement("TX-63")
def test_options_of_text_reach_the_normaliser(judge, voice):
    text, options = "One\n<i>two</i>.", {"max_new_tokens": 1}
    judge.equal("by default", spoken(voice.infer(text, **options)), ["one. two."])
    audio = voice.infer(text, paragraphs=True, **options)
    judge.equal("paragraphs", spoken(audio), ["one two."])
    kept = voice.infer_batch([text], keep_markup=True, **options)[0]
    judge.equal("markup", "less than" in " ".join(spoken(kept)), True)


@pytest.mark.requirement("CK-17")
@pytest.mark.parametrize("name", ["none", "english"])
def test_normaliser_is_the_one_that_the_folder_states(judge, stating, name):
    expected = {"none": "2 kg É", "english": "two kilograms e."}
    own = SopranoTTS(stating(name))
    judge.equal("sentence", own.stages.normalize("2 kg É"), expected[name])
    judge.equal("spoken", spoken(own.infer("2 kg É", max_new_tokens=1)), [expected[name]])


@pytest.mark.requirement("CK-17")
@pytest.mark.parametrize("name", ["german", "English", "5"])
def test_unknown_normaliser_is_rejected_by_name(judge, stating, name):
    message = judge.refuses(
        name, lambda: SopranoTTS(stating(name)), ModelError, accepts=lambda: SopranoTTS(V11)
    )
    judge.equal("the message names it", repr(name) in message, True)


@pytest.mark.requirement("SY-23")
def test_text_without_words_is_an_error_that_names_its_position(judge, voice):
    for texts, position in ((["so", "***", "so"], "text 1"), (["so", "so", ""], "text 2")):
        message = judge.refuses(
            position,
            lambda texts=texts: voice.infer_batch(texts, max_new_tokens=1),
            ValueError,
            accepts=lambda: voice.infer_batch(["so"], max_new_tokens=1),
        )
        judge.equal("the message names the position", position in message, True)


@pytest.mark.requirement("SY-23")
def test_texts_without_words_are_skipped_on_request(judge, voice, tmp_path):
    texts = ["", "go on.", "👍", "stop.", "..."]
    options = {"max_new_tokens": 3, "seed": 5}
    audios = voice.infer_batch(texts, tmp_path, on_empty="skip", **options)
    judge.equal("texts", [spoken(a) for a in audios], [[], ["go on."], [], ["stop."], []])
    judge.equal("files", sorted(p.name for p in tmp_path.iterdir()), ["1.wav", "3.wav"])
    without = voice.infer_batch([texts[1], texts[3]], **options)
    judge.bits("samples", audios[3].samples, without[1].samples)
    with pytest.raises(ValueError, match="on_empty"):
        voice.infer_batch(texts, on_empty="ignore")


@pytest.mark.requirement("SY-23")
def test_lines_without_words_are_reported(judge, tmp_path):
    from click.testing import CliRunner

    from soprano.cli import cli

    lines = tmp_path / "lines.txt"
    lines.write_text("go\n***\nstop\n", encoding="utf-8")
    arguments = ["say", "--lines", "-f", str(lines), "-o", str(tmp_path / "out"), "-m", str(V11)]
    result = CliRunner().invoke(cli, [*arguments, "--max-new-tokens", "1"])
    judge.equal("status", result.exit_code, 0)
    judge.equal("reported", "line 1 holds nothing to say" in result.stderr, True)
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    judge.equal("files", files, ["0.wav", "2.wav"])
