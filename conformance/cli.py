"""`python -m conformance`: the suite and its tools as commands."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import click

from conformance.installation import problem
from conformance.options import OPTIONS


@click.group()
@click.option("--traceback", is_flag=True, help="Show where an error was raised.")
def cli(**_: bool) -> None:
    """Conformance of ports of the Soprano family."""


def _require(extra: str, *modules: str) -> None:
    """Exit with a message that names the extra, unless its modules are installed."""
    if missing := [name for name in modules if find_spec(name) is None]:
        message = f"this needs an extra: pip install 'soprano-conformance[{extra}]'"
        click.echo(f"conformance: {message} (no module {', '.join(missing)})", err=True)
        sys.exit(2)


def _options_of_the_suite() -> str:
    """The suite's options, for the help text of a command that passes them to pytest."""
    own = {name: o for name, o in OPTIONS.items() if name != "report-dir"}
    rows = (f"--{name} {'' if 'const' in o else o.get('metavar', 'N')}" for name, o in own.items())
    helps = (o["help"] for o in own.values())
    return "\b\n" + "\n".join(f"{row:20} {text}" for row, text in zip(rows, helps, strict=True))


@cli.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    epilog=_options_of_the_suite(),
)
@click.option(
    "--report-dir",
    "folder",
    metavar="DIR",
    envvar="CONFORMANCE_REPORT_DIR",
    default="conformance-report",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Where to write conformance.json and junit.xml.",
)
@click.option(
    "--python",
    type=click.Path(path_type=Path),
    help="The interpreter of another environment, in which the suite runs.",
)
@click.pass_context
def run(context: click.Context, folder: Path, python: Path | None) -> None:
    """Run the suite on a port; takes its options (below) and those of pytest.

    Exit status: 0 every requirement holds, 1 one does not, 2 nothing was judged, 130 interrupted.
    """
    from conformance.report.json_document import prepare_folder
    from conformance.supervisor import INTERRUPTED, supervise

    try:
        if not {"--collect-only", "--co"} & {*context.args}:
            prepare_folder(folder)
    except OSError as error:
        click.echo(f"conformance: --report-dir {folder}: {error.strerror}", err=True)
        sys.exit(2)
    # The verdicts say what failed; `--tb=short` adds pytest's own account of every test, `-v` every
    # requirement.
    arguments = ["-p", "no:cacheprovider", "-q", "--tb=no", "-rN", "--disable-warnings"]
    arguments += ["--pyargs", "conformance", *context.args, "--report-dir", str(folder)]
    if python is None:
        status = supervise([sys.executable, "-m", "pytest", *arguments])
    else:
        status = _supervise_in(python, arguments)
    sys.exit(status if status in (0, 1, INTERRUPTED) else 2)


def _supervise_in(python: Path, arguments: list[str]) -> int:
    """Run the suite in another environment; 2 if it cannot run there."""
    from conformance.diagnosis.environments import UnusableError, command_of
    from conformance.supervisor import supervise

    try:
        with command_of(python) as command:
            return supervise([*command, *arguments])
    except UnusableError as error:
        click.echo(f"conformance: --python {error}", err=True)
        return 2


@cli.command()
@click.option("--to", type=click.Choice(["onnx", "openvino", "gguf"]), required=True)
@click.option("--precision", default="fp32", show_default=True, help="Precision class.")
@click.option("--model", "models", multiple=True, help="Only these (repeatable). [all]")
@click.option("--layout", type=click.Choice(["bundle", "community"]), default="bundle")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def export(to: str, precision: str, models: tuple[str, ...], layout: str, output: Path) -> None:
    """Export the models of the suite, one bundle per model."""
    if to == "gguf":
        _require(to, "gguf")
    else:
        _require(to, "onnx", "onnxruntime" if to == "onnx" else "openvino")
    from conformance.golden.packs import fixture_models

    fixtures = {model.name: model for model in fixture_models()}
    for name in models or fixtures:
        if name not in fixtures:
            raise click.BadParameter(f"no model {name}; there are {', '.join(fixtures)}")
        if to == "gguf":
            from soprano.export.gguf import export_gguf

            bundle = export_gguf(fixtures[name], output / name, precision=precision)
        else:
            from soprano.export.bundle import export_bundle

            bundle = export_bundle(
                fixtures[name], output / name, to=to, precision=precision, layout=layout
            )
        click.echo(bundle, err=True)


@cli.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.option("--storage", type=click.Path(path_type=Path), default=Path(".benchmarks"))
@click.option("--checkout", type=click.Path(path_type=Path), default=Path())
@click.option("--backend", "backends", multiple=True, help="Repeatable. [all installed]")
@click.option("--model", default="nano", show_default=True)
@click.option("--gate", is_flag=True, help="Measure the baseline commit and this tree in turns.")
@click.option("--against", metavar="COMMIT", help="The gate's baseline. [the newest saved run's]")
@click.pass_context
def bench(
    context: click.Context,
    storage: Path,
    checkout: Path,
    backends: tuple[str, ...],
    model: str,
    gate: bool,
    against: str | None,
) -> None:
    """Time every stage, save the run, and compare with it; other options are those of pytest.

    Exit status: 0 nothing is slower, 1 a stage is slower, or a backend does not conform and is
    not timed, 2 there is nothing to compare with.
    """
    _require("bench", "pytest_benchmark")
    from conformance.speed import commands as benchmarks
    from soprano.backends import installed_backends

    names = list(backends) or installed_backends()
    try:
        if gate:
            sys.exit(benchmarks.gate(checkout, storage, names, model, against))
        sys.exit(benchmarks.save_and_compare(storage, names, model, context.args))
    except (LookupError, ChildProcessError) as error:
        click.echo(f"bench: {error}", err=True)
        sys.exit(2)


@cli.command()
@click.option("--checkout", type=click.Path(path_type=Path), help="With this package's own tests.")
def contract(checkout: Path | None) -> None:
    """Print each requirement with the tests that check it."""
    from conformance.contract.reader import collect, parse_contract

    tests: dict[str, set[str]] = {}
    for node, names in collect(checkout).items():
        for name in names:
            tests.setdefault(name, set()).add(node.rsplit("/", 1)[-1].split("[")[0])
    for row in parse_contract():
        needs = f", needs {row.needs}" if row.needs else ""
        click.echo(f"{row.id} ({row.scope}, {row.level}{needs}; limit: {row.limit}) {row.law}")
        for test in sorted(tests.get(row.id, ())):
            click.echo(f"    {test}")


def _open_closed_streams() -> None:
    """What is written to a closed stream is dropped, and the run has a report and a status."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, os.O_RDWR)  # the lowest that is free: that of the stream
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8"))


def main() -> None:
    _open_closed_streams()
    _require("conformance", "hypothesis", "jsonschema", "pytest", "scipy")
    if found := problem():
        click.echo(f"conformance: {found}", err=True)
        sys.exit(2)
    from soprano.command_line import run as run_command

    run_command(_with_all_commands, "python -m conformance", "conformance", failure=2)


def _with_all_commands() -> click.Group:
    from conformance.diagnosis.commands import bisect, check, diff, ids, replace
    from conformance.faults.cli import faults
    from conformance.ports.commands import port
    from conformance.report.commands import report
    from conformance.report.port_table import record, write_table
    from conformance.vectors.commands import vectors

    cli.add_command(bisect)
    cli.add_command(check)
    cli.add_command(diff)
    cli.add_command(ids)
    cli.add_command(replace)
    cli.add_command(faults)
    cli.add_command(port)
    port.add_command(record)
    port.add_command(write_table)
    cli.add_command(report)
    cli.add_command(vectors)
    return cli
