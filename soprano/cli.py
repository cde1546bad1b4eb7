"""The command line: `soprano say`, `export`, `fetch`, `bench`, `info`.

Exit status: 0 success, 1 failure (also of writing to standard output), 2 wrong call or unusable
input, 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import click

from soprano import __version__
from soprano.audio import Audio
from soprano.audio_files import CONTAINERS, container_of, require_container, whole_file
from soprano.backends import MAX_THREADS, backend_names, installed_backends, open_backend
from soprano.checkpoint.folder import embedded_models, locate
from soprano.command_line import run
from soprano.errors import SopranoError
from soprano.regular_files import read_regular, reason
from soprano.standard_streams import open_closed_streams
from soprano.synthesis import DEFAULT_MODEL, Progress, SopranoTTS

_MODEL_HELP = "Embedded model, checkpoint or bundle folder, or org/name[@revision] of the hub."
_OPEN_FILES = ("/dev/fd/", "/dev/stdin")  # what a shell substitutes for a command
_THREADS = click.IntRange(min=1, max=MAX_THREADS)
MAX_TEXT = 64 << 20  # bytes of a text


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="soprano")
@click.option("--traceback", is_flag=True, help="Show where an error was raised.")
def cli(**_: bool) -> None:
    """Text to speech with models of the Soprano family, on the CPU."""


def _backend_options(command: Callable[..., Any]) -> Callable[..., Any]:
    options: tuple[Callable[[Callable[..., Any]], Callable[..., Any]], ...] = (
        click.option("--threads", type=_THREADS, help="Threads of the runtime."),
        click.option(
            "--skip-weight-hashes",
            is_flag=True,
            help="Open a bundle without comparing its weights with its manifest.",
        ),
        click.option("--precision", default="fp32", show_default=True, help="Precision class."),
        click.option("-b", "--backend", default="auto", show_default=True, help="Runtime."),
        click.option("-m", "--model", default=DEFAULT_MODEL, show_default=True, help=_MODEL_HELP),
    )
    for option in options:
        command = option(command)
    return command


@cli.command()
@click.argument("texts", metavar="[TEXT]...", nargs=-1)
@click.option("-f", "--file", "files", multiple=True, help="Read a text from a file (UTF-8).")
@click.option("--lines", is_flag=True, help="Synthesise each line separately, into a folder.")
@click.option("--paragraphs", is_flag=True, help="Only a blank line ends a sentence.")
@click.option("--keep-markup", is_flag=True, help="Read Markdown, HTML and SSML as text.")
@click.option(
    "-o",
    "--output",
    help="A .wav or .flac file, a folder, or - for standard output.  [speech.wav]",
)
@click.option(
    "--format",
    "container",
    type=click.Choice(CONTAINERS),
    help="In place of the suffix.",
)
@click.option("--stream", is_flag=True, help="Write audio while it is generated.")
@click.option(
    "--chunk-size", type=int, default=4, show_default=True, help="Audio tokens per streamed chunk."
)
@_backend_options
@click.option("--draft", help="int8, int4, a bundle, or none: faster, with the same ids.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--temperature", type=float, help="0 takes the most probable id.  [the model's]")
@click.option("--top-p", type=float, help="Probability of the nucleus.  [the model's]")
@click.option("--top-k", type=int, help="Number of ids kept, 0 for all.  [the model's]")
@click.option("--repetition-penalty", type=float, help="1 for none.  [the model's]")
@click.option("--max-new-tokens", type=int, help="Limit per sentence.  [the model's]")
@click.option("--retries", type=int, help="Further attempts for a stuck sentence.  [0]")
@click.option("--retry-temperature", type=float, help="Temperature of those attempts.  [unchanged]")
def say(
    texts: tuple[str, ...],
    files: tuple[str, ...],
    lines: bool,
    output: str | None,
    container: str | None,
    stream: bool,
    chunk_size: int,
    model: str,
    backend: str,
    precision: str,
    threads: int | None,
    draft: str | None,
    skip_weight_hashes: bool,
    **options: Any,
) -> None:
    """Synthesise TEXT, files, or standard input (-, or no argument).

    \b
    soprano say "Hello world" -o hello.wav
    soprano say -f chapter.txt -o chapter.flac
    soprano say "Hello world" --stream -o - | aplay
    soprano say "One." "Two." -o folder/

    If OUTPUT is a folder (it exists, its name ends in /, or --lines is given), each text becomes
    a file: 0.wav, 1.wav, ... Otherwise the texts are joined into one file.
    """
    given = _texts(texts, files, lines)
    output = output or ("speech/" if lines else "speech.wav")
    folder = output != "-" and (lines or output.endswith("/") or Path(output).is_dir())
    if stream and folder:
        raise click.UsageError("--stream writes one file, not a folder")
    if output == "-" and sys.stdout.isatty():
        raise click.UsageError("standard output is a terminal: redirect it, or name a file with -o")
    container = container or ("wav" if folder or output == "-" else container_of(output))
    require_container(container)
    voice = SopranoTTS(
        model, backend, precision, threads, draft=draft, verify_weights=not skip_weight_hashes
    )
    given_options = (item for item in options.items() if item[1] is not None)
    options = {name: value for name, value in given_options if value is not False}
    with _progress("speaking") as progress:
        options["progress"] = progress
        if folder:
            options["on_empty"] = "skip" if lines else "error"
            audios = voice.infer_batch(given, output, container=container, **options)
            _report_skipped(audios, given, container)
            reasons = [reason for audio in audios for reason in audio.finish_reasons]
            seconds = sum(audio.duration for audio in audios)
        else:
            text = "\n".join(given)
            size = chunk_size if stream else None
            reasons, seconds = _say_one(voice, text, output, container, size, options)
    if cut := reasons.count("length"):
        click.echo(f"soprano: {cut} of {len(reasons)} sentences reached the token limit", err=True)
    if sys.stderr.isatty():
        click.echo(f"{output}: {seconds:.2f} s at {voice.sample_rate} Hz", err=True)


def _report_skipped(audios: list[Audio], texts: list[str], container: str) -> None:
    for index, (audio, text) in enumerate(zip(audios, texts, strict=True)):
        if not audio.sentences:
            click.echo(
                f"soprano: line {index} holds nothing to say, {index}.{container} is not written: "
                f"{text[:40]!r}",
                err=True,
            )


def _texts(texts: tuple[str, ...], files: tuple[str, ...], lines: bool) -> list[str]:
    given = [_read("-") if text == "-" else text for text in texts]
    given += [_read(name) for name in files]
    if not given:
        if sys.stdin.isatty():
            raise click.UsageError("nothing to say: give TEXT, --file or standard input")
        given = [_read("-")]
    if lines:
        given = [line for text in given for line in text.splitlines() if line.strip()]
    return given


def _read(name: str) -> str:
    source = "standard input" if name == "-" else name
    if name == "-" or name.startswith(_OPEN_FILES):
        with nullcontext(sys.stdin.buffer) if name == "-" else Path(name).open("rb") as file:
            raw = file.read(MAX_TEXT + 1)
        if len(raw) > MAX_TEXT:
            raise ValueError(f"{source} is longer than {MAX_TEXT} bytes")
    else:
        raw = _read_file(name)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{source} is not UTF-8: byte {error.start}") from None


def _read_file(name: str) -> bytes:
    try:
        return read_regular(name, MAX_TEXT)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"{name} cannot be read: {reason(error)}") from None


def _say_one(
    voice: SopranoTTS,
    text: str,
    output: str,
    container: str,
    chunk_size: int | None,
    options: dict[str, Any],
) -> tuple[list[str], float]:
    """Synthesise one text. Returns its finish reasons and its duration in seconds."""
    target = nullcontext(sys.stdout.buffer) if output == "-" else whole_file(output)
    write = voice.stages.write
    if chunk_size is None:
        audio = voice.infer(text, **options)
        count = len(audio)
        with (
            target as file,
            closing(write(file, container, voice.sample_rate, count)) as writer,
        ):
            writer.write(audio.samples)
        return audio.finish_reasons, audio.duration
    chunks = voice.infer_stream(text, chunk_size=chunk_size, **options)
    reasons, count = [], 0
    with target as file, closing(write(file, container, voice.sample_rate)) as writer:
        for chunk in chunks:
            writer.write(chunk.samples)
            count += len(chunk.samples)
            if chunk.finish_reason:
                reasons.append(chunk.finish_reason)
    return reasons, count / voice.sample_rate


@contextmanager
def _progress(label: str) -> Iterator[Progress | None]:
    """A progress bar on a terminal; None in a pipe."""
    if not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=1, label=label, file=sys.stderr) as bar:

        def progress(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        yield progress


@cli.command()
@click.option("-m", "--model", default=DEFAULT_MODEL, show_default=True, help=_MODEL_HELP)
@click.option(
    "--to",
    type=click.Choice(["onnx", "openvino", "gguf"]),
    required=True,
    help="gguf: the language model for ggml runtimes, beside the decoder's weights.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8", "int4"]),
    default="fp32",
    show_default=True,
)
@click.option(
    "--part", type=click.Choice(["all", "lm", "decoder"]), default="all", show_default=True
)
@click.option(
    "--layout",
    type=click.Choice(["bundle", "community"]),
    default="bundle",
    show_default=True,
    help="community: names and orders of community exports, for other runtimes.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Bundle folder."
)
def export(model: str, to: str, precision: str, part: str, layout: str, output: Path) -> None:
    """Write a self-contained bundle of graphs, weights, tokenizer, config and manifest."""
    try:
        if to == "gguf":
            from soprano.export.gguf import export_gguf

            export_gguf(model, output, precision=precision)
        else:
            from soprano.export.bundle import export_bundle

            export_bundle(model, output, to=to, precision=precision, part=part, layout=layout)
    except SopranoError:
        raise
    except ImportError as error:
        raise click.ClickException(
            f"export needs an extra: pip install 'soprano-conformance[export]' ({error})"
        ) from None
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    click.echo(f"{output}: {size / 1e6:.1f} MB", err=True)


@cli.command()
@click.argument("repo", metavar="REPO[@REVISION]")
def fetch(repo: str) -> None:
    """Download a published model and print its folder.

    Only the files that synthesis needs are fetched. A revision is a branch, a tag or a commit.
    """
    from soprano.checkpoint.hub import fetch_model

    click.echo(fetch_model(repo))


@cli.command()
@click.option("-m", "--model", default=DEFAULT_MODEL, show_default=True, help=_MODEL_HELP)
@click.option("-b", "--backend", "backends", multiple=True, help="Repeatable. [all installed]")
@click.option("--precision", default="fp32", show_default=True, help="Precision class.")
@click.option("--threads", type=_THREADS, help="Threads of the runtimes.")
@click.option("--tokens", type=click.IntRange(min=2, max=512), default=64, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--plot", type=click.Path(path_type=Path), help="Also draw a PNG file.")
def bench(
    model: str,
    backends: tuple[str, ...],
    precision: str,
    threads: int | None,
    tokens: int,
    rounds: int,
    plot: Path | None,
) -> None:
    """Measure the time of each stage on each backend, in turns."""
    from soprano import bench as measured

    names = backends or tuple(installed_backends())
    voices = {name: SopranoTTS(model, name, precision, threads) for name in names}
    with _progress("timing") as progress:
        times = measured.measure(voices, tokens=tokens, rounds=rounds, progress=progress)
    click.echo(measured.table(times))
    if plot:
        try:
            measured.plot(times, plot)
        except ImportError as error:
            raise click.ClickException(
                f"--plot needs an extra: pip install 'soprano-conformance[bench]' ({error})"
            ) from None


@cli.command()
@_backend_options
def info(
    model: str, backend: str, precision: str, threads: int | None, skip_weight_hashes: bool
) -> None:
    """Show what is installed, and the effective configuration of a model and backend."""
    installed = installed_backends()
    click.echo(f"soprano {__version__}, Python {sys.version.split()[0]}")
    click.echo(f"embedded models: {', '.join(embedded_models()) or 'none'}")
    for name in backend_names():
        click.echo(f"backend {name}: {'installed' if name in installed else 'not installed'}")
    if not installed and backend == "auto":
        return
    folder = locate(model)
    opened = open_backend(
        backend, folder, precision, threads, verify_weights=not skip_weight_hashes
    )
    config, decoder = opened.config.language_model, opened.config.decoder
    click.echo(f"model {folder}")
    click.echo(
        f"  language model: {config.num_hidden_layers} layers, hidden {config.hidden_size}, "
        f"{config.num_attention_heads}/{config.num_key_value_heads} heads of "
        f"{config.head_dim}, vocabulary {config.vocab_size}"
    )
    click.echo(
        f"  decoder: {decoder.num_layers} blocks of {decoder.dim}, n_fft {decoder.n_fft}, "
        f"hop {decoder.hop_length}, {decoder.sample_rate} Hz, "
        f"{decoder.samples_per_token} samples a token"
    )
    click.echo(f"backend {opened.name}")
    for field, attested in opened.attest().items():
        click.echo(f"  {field}: {attested.value} ({attested.how})")


def main() -> None:
    """Run the command line and exit with its status."""
    open_closed_streams()
    run(lambda: cli, "soprano", "soprano", failure=1)
