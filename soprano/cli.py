"""The command line: `soprano say`, `export`, `fetch`, `bench`, `info`.

Exit status: 0 done, 1 the thing asked about failed, 2 wrong call or unusable input,
130 interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import click

from soprano import __version__
from soprano.audio_files import CONTAINERS, container_of, require_container, whole_file
from soprano.backends import backend_names, installed_backends, open_backend
from soprano.checkpoint.folder import embedded_models, locate
from soprano.errors import SopranoError
from soprano.synthesis import DEFAULT_MODEL, Progress, SopranoTTS

_MODEL_HELP = "Embedded model, checkpoint or bundle folder, or org/name[@revision] of the hub."
# What a caller can mend by calling otherwise.
_WRONG_CALLS = (
    SopranoError,
    ValueError,
    FileNotFoundError,
    FileExistsError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="soprano")
def cli() -> None:
    """Small neural voices of the Soprano family on the CPU."""


def _backend_options(command: Callable[..., Any]) -> Callable[..., Any]:
    options: tuple[Callable[[Callable[..., Any]], Callable[..., Any]], ...] = (
        click.option("--threads", type=click.IntRange(min=1), help="Threads of the runtime."),
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
@click.option("--lines", is_flag=True, help="Speak each line by itself, into a folder.")
@click.option(
    "-o",
    "--output",
    help="A .wav or .flac file, a folder, or - for standard output.  [speech.wav]",
)
@click.option("--format", "container", type=click.Choice(CONTAINERS), help="Whatever the suffix.")
@click.option("--stream", is_flag=True, help="Write sound while the sentence is being spoken.")
@click.option(
    "--chunk-size", type=int, default=4, show_default=True, help="Audio tokens a chunk of a stream."
)
@_backend_options
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--temperature", type=float, help="0 takes the likeliest id.  [the model's]")
@click.option("--top-p", type=float, help="Mass of the nucleus.  [the model's]")
@click.option("--top-k", type=int, help="Ids kept, 0 for all.  [the model's]")
@click.option("--repetition-penalty", type=float, help="1 for none.  [the model's]")
@click.option("--max-new-tokens", type=int, help="Limit of a sentence.  [the model's]")
@click.option("--retries", type=int, help="Tries more for a sentence that got stuck.  [0]")
@click.option("--retry-temperature", type=float, help="Of those tries.  [as before]")
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
    **options: Any,
) -> None:
    """Speak TEXT, files, or standard input (-, or nothing else given).

    \b
    soprano say "Hello world" -o hello.wav
    soprano say -f chapter.txt -o chapter.flac
    soprano say "Hello world" --stream -o - | aplay
    soprano say "One." "Two." -o folder/

    In a folder (one that exists, a name that ends in /, or with --lines), each text becomes a
    file of its own: 0.wav, 1.wav, and so on. Otherwise they are spoken one after the other.
    """
    given = _texts(texts, files, lines)
    output = output or ("speech/" if lines else "speech.wav")
    folder = output != "-" and (lines or output.endswith("/") or Path(output).is_dir())
    if stream and folder:
        raise click.UsageError("--stream speaks into one file, not into a folder")
    if output == "-" and sys.stdout.isatty():
        raise click.UsageError("standard output is a terminal: redirect it, or name a file with -o")
    container = container or ("wav" if folder or output == "-" else container_of(output))
    require_container(container)
    voice = SopranoTTS(model, backend, precision, threads)
    options = {name: value for name, value in options.items() if value is not None}
    with _progress("speaking") as progress:
        options["progress"] = progress
        if folder:
            audios = voice.infer_batch(given, output, container=container, **options)
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


def _texts(texts: tuple[str, ...], files: tuple[str, ...], lines: bool) -> list[str]:
    found = [_read("-") if text == "-" else text for text in texts]
    found += [_read(name) for name in files]
    if not found:
        if sys.stdin.isatty():
            raise click.UsageError("nothing to say: give TEXT, --file or standard input")
        found = [_read("-")]
    if lines:
        found = [line for text in found for line in text.splitlines() if line.strip()]
    return found


def _read(name: str) -> str:
    raw = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        source = "standard input" if name == "-" else name
        raise ValueError(f"{source} is not UTF-8: byte {error.start}") from None


def _say_one(
    voice: SopranoTTS,
    text: str,
    output: str,
    container: str,
    chunk_size: int | None,
    options: dict[str, Any],
) -> tuple[list[str], float]:
    """Speak one text; gives its finish reasons and its seconds of sound."""
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
    """A bar on a terminal; nothing in a pipe."""
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
@click.option("--to", type=click.Choice(["onnx", "openvino"]), required=True)
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
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Bundle folder."
)
def export(model: str, to: str, precision: str, part: str, output: Path) -> None:
    """Write a self-contained bundle of graphs, weights, tokenizer, config and manifest."""
    try:
        from soprano.export.bundle import export_bundle
    except ImportError as error:
        raise click.ClickException(
            f"export needs an extra: pip install 'soprano-conformance[export]' ({error})"
        ) from None
    export_bundle(model, output, to=to, precision=precision, part=part)
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    click.echo(f"{output}: {size / 1e6:.1f} MB", err=True)


@cli.command()
@click.argument("repo", metavar="REPO[@REVISION]")
def fetch(repo: str) -> None:
    """Download a published model and print the folder in which it lies.

    Only the files that speech needs are fetched. A revision is a branch, a tag or a commit.
    """
    from soprano.checkpoint.hub import fetch_model

    click.echo(fetch_model(repo))


@cli.command()
@click.option("-m", "--model", default=DEFAULT_MODEL, show_default=True, help=_MODEL_HELP)
@click.option("-b", "--backend", "backends", multiple=True, help="Repeatable. [all installed]")
@click.option("--precision", default="fp32", show_default=True, help="Precision class.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of the runtimes.")
@click.option("--tokens", type=click.IntRange(min=2, max=512), default=64, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--plot", type=click.Path(path_type=Path), help="Draw a PNG, too.")
def bench(
    model: str,
    backends: tuple[str, ...],
    precision: str,
    threads: int | None,
    tokens: int,
    rounds: int,
    plot: Path | None,
) -> None:
    """Show where the time goes, by part and backend, measured in turns."""
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
def info(model: str, backend: str, precision: str, threads: int | None) -> None:
    """Show what is installed, and what a model and backend really are."""
    installed = installed_backends()
    click.echo(f"soprano {__version__}, Python {sys.version.split()[0]}")
    click.echo(f"embedded models: {', '.join(embedded_models()) or 'none'}")
    for name in backend_names():
        click.echo(f"backend {name}: {'installed' if name in installed else 'not installed'}")
    if not installed and backend == "auto":
        return
    folder = locate(model)
    opened = open_backend(backend, folder, precision, threads)
    numbers, decoder = opened.config.language_model, opened.config.decoder
    click.echo(f"model {folder}")
    click.echo(
        f"  language model: {numbers.num_hidden_layers} layers, hidden {numbers.hidden_size}, "
        f"{numbers.num_attention_heads}/{numbers.num_key_value_heads} heads of "
        f"{numbers.head_dim}, vocabulary {numbers.vocab_size}"
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
    """Run the command line and leave with its exit status.

    Errors that a caller can mend end in one sentence, not in a traceback.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # tidy up as after Ctrl-C
    try:
        status = cli.main(prog_name="soprano", standalone_mode=False)
        sys.stdout.flush()
        sys.exit(status)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except BrokenPipeError:
        # Whoever read our output has left; the interpreter would complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (*_WRONG_CALLS, OSError) as error:
        click.echo(f"soprano: {' '.join(str(error).split())}", err=True)
        sys.exit(2 if isinstance(error, _WRONG_CALLS) else 1)
    except (KeyboardInterrupt, click.Abort):
        click.echo("soprano: interrupted", err=True)
        sys.exit(130)
