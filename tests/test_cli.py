"""The command line in processes of its own: files, exit status, errors of one line."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import struct
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from conformance.golden.packs import fixture_models
from soprano.audio import read_wav

MICRO = {path.name: path for path in fixture_models()}
ENVIRONMENT = {**os.environ, "COLUMNS": "200"}


def command(*arguments, code=None):
    program = ["-m", "soprano"] if code is None else ["-c", code]
    return [sys.executable, *program, *map(str, arguments)]


def soprano(*arguments, code=None):
    words = command(*arguments, code=code)
    return subprocess.run(words, input="", capture_output=True, text=True, env=ENVIRONMENT)


def say(*arguments, stdin=b""):
    """`soprano say` on a micro model, which generates tokens up to the limit."""
    words = command("say", *arguments, "-m", MICRO["v11"], "--max-new-tokens", 20)
    return subprocess.run(words, input=stdin, capture_output=True, env=ENVIRONMENT)


def assert_rejected(result, *parts):
    """The command ended with status 2 and one line that contains all parts."""
    assert result.returncode == 2, result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    for part in parts:
        assert part in lines[0], result.stderr


@pytest.fixture
def damaged(tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(MICRO["v11"], folder)
    return folder


def test_say_writes_a_wav_file(tmp_path):
    out = tmp_path / "hello.wav"
    result = soprano("say", "Hello.", "-m", MICRO["v11"], "-o", out, "--max-new-tokens", 20)
    assert result.returncode == 0, result.stderr
    with wave.open(str(out)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16000)
        assert file.getnframes() > 0


def read_audio(path):
    """The audio of a WAV file that is not empty."""
    audio = read_wav(path)
    assert len(audio) > 0
    return audio


def test_arguments_files_and_standard_input_give_the_same_audio(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("\ufeffHello there — friend.\n", encoding="utf-8")
    results = {
        "words": say("Hello there — friend.", "-o", tmp_path / "words.wav"),
        "file": say("-f", text, "-o", tmp_path / "file.wav"),
        "dash": say("-", "-o", tmp_path / "dash.wav", stdin=text.read_bytes()),
        "input": say("-o", tmp_path / "input.wav", stdin=text.read_bytes()),
    }
    for name, result in results.items():
        assert result.returncode == 0, result.stderr
        assert (tmp_path / f"{name}.wav").read_bytes() == (tmp_path / "words.wav").read_bytes()
    assert read_audio(tmp_path / "words.wav").sample_rate == 16000


def test_several_texts_are_written_to_numbered_files(tmp_path):
    assert say("Hello.", "Good bye.", "-o", f"{tmp_path}/each/").returncode == 0
    assert say("--lines", "-o", tmp_path / "lines", stdin=b"Hello.\n\nGood bye.\n").returncode == 0
    assert say("Good bye.", "-o", tmp_path / "alone.wav").returncode == 0
    for folder in ("each", "lines"):
        files = sorted(path.name for path in (tmp_path / folder).iterdir())
        assert files == ["0.wav", "1.wav"]
        second, alone = (
            read_audio(path) for path in (tmp_path / folder / "1.wav", tmp_path / "alone.wav")
        )
        # Rounding in a batch may move a sample across one step of 16 bits.
        assert np.abs(second.samples - alone.samples).max() <= 1.5 / 32767


def test_standard_output_receives_the_bytes_of_a_file(tmp_path):
    assert say("Hello.", "-o", tmp_path / "a.wav").returncode == 0
    assert say("Hello.", "-o", "-").stdout == (tmp_path / "a.wav").read_bytes()


def test_a_streamed_wav_states_its_sizes_in_a_file_but_not_in_a_pipe(tmp_path):
    """In a pipe the sizes are the largest numbers, on which players read to the end."""
    assert say("Hello there.", "-o", tmp_path / "whole.wav").returncode == 0
    assert say("Hello there.", "--stream", "-o", tmp_path / "stream.wav").returncode == 0
    whole, streamed = (read_audio(tmp_path / f"{name}.wav") for name in ("whole", "stream"))
    assert np.abs(streamed.samples - whole.samples).max() <= 1.5 / 32767
    piped = say("Hello there.", "--stream", "-o", "-").stdout
    assert struct.unpack("<I", piped[4:8]) == struct.unpack("<I", piped[40:44]) == (2**32 - 1,)
    assert piped[44:] == (tmp_path / "stream.wav").read_bytes()[44:]


@pytest.mark.parametrize("stream", [(), ("--stream",)])
def test_flac_is_lossless(tmp_path, stream):
    soundfile = pytest.importorskip("soundfile", reason="FLAC is read with libsndfile")
    assert say("Hello there.", *stream, "-o", tmp_path / "a.wav").returncode == 0
    assert say("Hello there.", *stream, "-o", tmp_path / "a.flac").returncode == 0
    piped = say("Hello there.", *stream, "--format", "flac", "-o", "-")
    (tmp_path / "piped.flac").write_bytes(piped.stdout)
    with wave.open(str(tmp_path / "a.wav")) as file:
        expected = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    assert len(expected) > 0
    for name in ("a.flac", "piped.flac"):
        assert soundfile.info(str(tmp_path / name)).subtype == "PCM_16"
        values, rate = soundfile.read(str(tmp_path / name), dtype="int16")
        assert rate == 16000
        assert np.array_equal(values, expected)


def test_flac_without_its_library_is_rejected(tmp_path):
    hide = "import sys; sys.modules['soundfile'] = None; from soprano.cli import main; main()"
    result = soprano("say", "Hi", "-m", MICRO["v11"], "-o", tmp_path / "a.flac", code=hide)
    assert_rejected(result, "[flac]")
    assert not any(tmp_path.iterdir())


def test_other_formats_missing_folders_and_other_encodings_are_rejected(tmp_path):
    model = ("-m", MICRO["v11"])
    assert_rejected(soprano("say", "Hi", *model, "-o", tmp_path / "a.mp3"), "a.mp3", ".flac")
    assert_rejected(soprano("say", "Hi", *model, "-o", tmp_path / "no" / "a.wav"), "No such file")
    assert_rejected(soprano("say", "-f", tmp_path / "none.txt", *model), "none.txt")
    (tmp_path / "latin.txt").write_bytes("Grüße".encode("latin-1"))
    assert_rejected(soprano("say", "-f", tmp_path / "latin.txt", *model), "latin.txt", "UTF-8")


def test_progress_is_shown_on_a_terminal_only(tmp_path):
    assert say("Hello.", "-o", tmp_path / "a.wav", "--temperature", 0).stderr.count(b"\n") <= 1
    ours, theirs = pty.openpty()
    words = command("say", "Hello.", "-o", tmp_path / "a.wav", "-m", MICRO["v11"])
    with subprocess.Popen(words, stderr=theirs, env=ENVIRONMENT) as process:
        os.close(theirs)
        shown = b""
        while chunk := _read_terminal(ours):
            shown += chunk
    assert process.returncode == 0, shown
    assert b"speaking" in shown
    assert b"100%" in shown
    assert b"16000 Hz" in shown


def _read_terminal(descriptor):
    try:
        return os.read(descriptor, 4096)
    except OSError:  # on Linux, the other side is closed
        return b""


LONG = "This is a sentence of a long text. " * 400


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stream", [(), ("--stream",)])
def test_an_interrupted_run_leaves_nothing_behind(tmp_path, number, stream):
    out = tmp_path / "out"
    out.mkdir()
    (out / "old.wav").write_bytes(b"old content")
    words = command("say", LONG, *stream, "-m", MICRO["v11"], "-o", out / "old.wav")
    code = [words[0], "-c", STARTED, *words[3:]]
    with subprocess.Popen(code, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"speaking\n"
        process.send_signal(number)
        error = process.stderr.read()
    assert process.returncode == 130, error
    assert b"interrupted" in error
    assert b"Traceback" not in error
    assert [path.name for path in out.iterdir()] == ["old.wav"]
    assert (out / "old.wav").read_bytes() == b"old content"


# Prints a line at the fiftieth id. A shell starts background jobs with SIGINT ignored, so that
# the handler is set again.
STARTED = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from itertools import count
from soprano import cli, synthesis
sample, calls = synthesis.sample, count(1)

def counted(*arguments):
    if next(calls) == 50:
        print("speaking", flush=True)
    return sample(*arguments)

synthesis.sample = counted
cli.main()
"""


def test_a_closed_pipe_ends_the_command_with_one_sentence():
    words = command("say", LONG, "--stream", "-o", "-", "-m", MICRO["v11"])
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.read(100)[:4] == b"RIFF"
        process.stdout.close()
        error = process.stderr.read()
    assert process.returncode == 1
    assert error == b"soprano: standard output is closed\n"


def shell(line, out):
    """`soprano` with redirections that a shell makes, writing to `out` if it is named."""
    words = " ".join(command(line)).replace("OUT", str(out)).replace("V11", str(MICRO["v11"]))
    return subprocess.run(
        ["sh", "-c", words], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    "line",
    [
        "info >&-",
        "--help >&-",
        "--version >&-",
        "say Hi -m V11 -o - >&-",
        "say Hi -m V11 --stream -o - >&-",
    ],
)
def test_a_closed_output_that_is_needed_is_one_sentence(tmp_path, line):
    result = shell(line, tmp_path)
    assert result.returncode == 1, result.stderr
    assert result.stderr == "soprano: standard output is closed\n"


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_that_are_not_needed_change_nothing(tmp_path, closed):
    stream = "--stream" if "2" in closed else ""
    line = f"say Hello. {stream} -m V11 --max-new-tokens 20 -o OUT"
    for name, redirection in (("open.wav", ""), ("closed.wav", closed)):
        result = shell(f"{line} {redirection}", tmp_path / name)
        assert result.returncode == 0, result.stderr
        assert "Traceback" not in result.stderr
    written = [(tmp_path / name).read_bytes() for name in ("open.wav", "closed.wav")]
    assert written[0] == written[1]
    assert len(written[0]) > 44


def test_errors_keep_their_status_if_standard_error_is_closed(tmp_path):
    for line, status in (("say Hi -b abacus", 2), ("say -m V11 <&-", 2), ("say Hi -m OUT", 2)):
        result = shell(f"{line} 2>&-", tmp_path)
        assert (result.returncode, result.stderr) == (status, "")


@pytest.mark.parametrize(
    "name",
    ["./x", "../x", "models/x", "./models/x", "models/x/y", "/no/x", "~/no-x", "models/", ".", "x"],
)
def test_a_path_without_a_folder_is_not_looked_up_on_the_hub(tmp_path, name):
    """Also `models/x`, where `models` exists; a name of that form is a hub's otherwise."""
    (tmp_path / "models").mkdir()
    words = command("say", "Hi", "-m", name)
    result = subprocess.run(
        words, input="", capture_output=True, text=True, env=ENVIRONMENT, cwd=tmp_path
    )
    expected = "config.json" if name in (".", "models/") else "there is no such folder"
    assert_rejected(result, expected)
    assert "hub" not in result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device /dev/full of Linux")
def test_a_full_disk_is_an_error_without_a_traceback():
    result = say("Hello.", "-o", "/dev/full")
    assert result.returncode == 1
    assert b"No space left" in result.stderr
    assert b"Traceback" not in result.stderr


def test_an_exported_bundle_can_be_used_by_say(tmp_path):
    bundle, out = tmp_path / "bundle", tmp_path / "a.wav"
    made = soprano("export", "-m", MICRO["v10"], "--to", "onnx", "-o", bundle)
    assert made.returncode == 0, made.stderr
    result = soprano("say", "Hi there.", "-m", bundle, "-o", out, "--max-new-tokens", 10)
    assert result.returncode == 0, result.stderr
    assert out.stat().st_size > 44


# Reports on standard error each access to the network by this process or a fork of it.
WATCHED = """
import os, sys

def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        os.write(2, f"network: {arguments}\\n".encode())

sys.addaudithook(watch)
from soprano.cli import main
main()
"""


@pytest.mark.parametrize("runtime", ["onnx_cpu", "openvino_cpu", "pytorch"])
def test_say_does_not_use_the_network(tmp_path, runtime):
    words = ("-m", MICRO["v11"], "-b", runtime, "--max-new-tokens", 4, "-o", tmp_path / "a.wav")
    result = soprano("say", "Hi.", *words, code=WATCHED)
    assert result.returncode == 0, result.stderr
    assert "network" not in result.stderr


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_export_does_not_use_the_network(tmp_path, to):
    words = ("-m", MICRO["v11"], "--to", to, "-o", tmp_path / "bundle")
    result = soprano("export", *words, code=WATCHED)
    assert result.returncode == 0, result.stderr
    assert "network" not in result.stderr


def test_info_shows_the_effective_configuration():
    result = soprano("info", "-m", MICRO["v11"], "-b", "openvino_cpu")
    assert result.returncode == 0, result.stderr
    assert "precision: f32 (read back)" in result.stdout


def test_a_folder_without_a_model_is_rejected(tmp_path):
    assert_rejected(soprano("say", "Hi", "-m", tmp_path / "none"), "no model")
    assert_rejected(soprano("say", "Hi", "-m", tmp_path), "config.json")


def test_an_unknown_backend_is_rejected():
    assert_rejected(soprano("say", "Hi", "-m", MICRO["v11"], "-b", "abacus"), "abacus", "onnx_cpu")


@pytest.mark.parametrize("text", ["", "   ", "..."])
def test_a_text_without_words_is_rejected(text):
    assert_rejected(soprano("say", text, "-m", MICRO["v11"]), "nothing to say")


@pytest.mark.parametrize("runtime", ["onnx_cpu", "openvino_cpu", "pytorch"])
@pytest.mark.parametrize("name", ["model.safetensors", "decoder.safetensors"])
def test_a_truncated_weights_file_is_rejected(damaged, name, runtime):
    path = damaged / name
    path.write_bytes(path.read_bytes()[:-100])
    assert_rejected(soprano("say", "Hi", "-m", damaged, "-b", runtime), name, "truncated")


def test_a_truncated_bundle_is_rejected(tmp_path):
    bundle = tmp_path / "bundle"
    assert soprano("export", "-m", MICRO["v11"], "--to", "onnx", "-o", bundle).returncode == 0
    path = bundle / "onnx" / "decoder.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert_rejected(soprano("say", "Hi", "-m", bundle, "-b", "onnx_cpu"), "decoder")


@pytest.mark.parametrize(
    ("runtime", "module", "extra"),
    [
        ("onnx_cpu", "onnxruntime", "[onnx]"),
        ("openvino_cpu", "openvino", "[openvino]"),
        ("pytorch", "torch", "[torch]"),
    ],
)
def test_a_missing_runtime_names_its_extra(runtime, module, extra):
    hide = f"import sys; sys.modules[{module!r}] = None; from soprano.cli import main; main()"
    result = soprano("say", "Hi", "-m", MICRO["v11"], "-b", runtime, code=hide)
    assert_rejected(result, extra)


def test_an_option_out_of_range_is_rejected():
    result = soprano("say", "Hi", "-m", MICRO["v11"], "--temperature", -1)
    assert_rejected(result, "temperature")


def test_export_does_not_overwrite_a_folder_that_is_no_bundle(tmp_path):
    (tmp_path / "other.txt").write_text("content", encoding="utf-8")
    result = soprano("export", "-m", MICRO["v11"], "--to", "onnx", "-o", tmp_path)
    assert_rejected(result, "not a bundle")
    assert (tmp_path / "other.txt").read_text(encoding="utf-8") == "content"


def test_bench_prints_a_row_per_stage_and_draws_a_plot(tmp_path):
    plot = tmp_path / "speed.png"
    result = soprano("bench", "-m", MICRO["v11"], "--tokens", 12, "--rounds", 1, "--plot", plot)
    assert result.returncode == 0, result.stderr
    first, _, *rows, last = result.stdout.splitlines()
    assert first.split(" | ")[1:]
    assert [row.split(",")[0] for row in rows] == [
        f"| {part}"
        for part in ("prefill", "step", "verify", "sample", "decode", "istft", "first sound")
    ]
    assert all(float(factor) > 0 for factor in last.strip(" |").split(" | ")[1:])
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert result.stderr == ""
