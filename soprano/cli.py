"""The command line: `soprano say`, `export`, `info`.

Exit status: 0 done, 1 the thing asked about failed, 2 wrong call or unusable input,
130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from soprano import __version__
from soprano.backends import backend_names, installed_backends, open_backend
from soprano.errors import SopranoError
from soprano.model import embedded_models, locate
from soprano.synthesis import DEFAULT_MODEL, SopranoTTS

_MODEL_HELP = "Embedded model, checkpoint folder or bundle folder."


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
@click.argument("text")
@click.option(
    "-o",
    "--output",
    default="speech.wav",
    show_default=True,
    help="WAV file; - is standard output.",
)
@_backend_options
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--temperature", type=float, help="0 takes the likeliest id. [the model's]")
@click.option("--top-p", type=float, help="Mass of the nucleus. [the model's]")
@click.option("--top-k", type=int, help="Ids kept, 0 for all. [the model's]")
@click.option("--repetition-penalty", type=float, help="1 for none. [the model's]")
@click.option("--max-new-tokens", type=int, help="Limit of a sentence. [512]")
def say(
    text: str,
    output: str,
    model: str,
    backend: str,
    precision: str,
    threads: int | None,
    **options: Any,
) -> None:
    """Speak TEXT (- reads it from standard input) to a WAV file."""
    from soprano.audio import write_wav

    if text == "-":
        text = sys.stdin.read()
    voice = SopranoTTS(model, backend, precision, threads)
    given = {name: value for name, value in options.items() if value is not None}
    with click.progressbar(
        length=1, label="speaking", file=sys.stderr, hidden=not sys.stderr.isatty()
    ) as bar:

        def progress(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        audio = voice.infer_batch([text], progress=progress, **given)[0]
    if output == "-":
        write_wav(sys.stdout.buffer, audio.samples, audio.sample_rate)
        return
    audio.save(output)
    cut = audio.finish_reasons.count("length")
    click.echo(
        f"{output}: {audio.duration:.2f} s at {audio.sample_rate} Hz"
        + (f"; {cut} sentences reached the token limit" if cut else ""),
        err=True,
    )


@cli.command()
@click.option("-m", "--model", default=DEFAULT_MODEL, show_default=True, help=_MODEL_HELP)
@click.option("--to", type=click.Choice(["onnx", "openvino"]), required=True)
@click.option("--precision", type=click.Choice(["fp32", "fp16"]), default="fp32", show_default=True)
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
    opened = open_backend(backend, model, precision, threads)
    numbers, decoder = opened.config.language_model, opened.config.decoder
    click.echo(f"model {locate(model)}")
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
    try:
        sys.exit(cli.main(prog_name="soprano", standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (SopranoError, ValueError, OSError) as error:
        click.echo(f"soprano: {' '.join(str(error).split())}", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        click.echo("soprano: interrupted", err=True)
        sys.exit(130)
