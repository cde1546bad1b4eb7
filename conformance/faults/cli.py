"""`python -m conformance faults`: plant every fault, and show the suite's verdicts."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from conformance.contract.reader import SCOPES, requirements
from conformance.faults import Fault, catalogue
from conformance.faults import kill_matrix as matrix
from conformance.faults.kill_matrix import Result
from conformance.faults.plant import can_be_port
from conformance.subject import Subject, open_in_process

# Faults of stages that all backends share are planted on the first backend only.
SHARED = ("TX", "TK", "SA", "GE", "IS", "SY", "ST", "AO")


def chosen(only: Sequence[str], scope: str | None = None) -> list[Fault]:
    """The faults with an id, a beginning of it, a name or an aim in `only`; by default all.

    With a scope, those that are aimed at one of its requirements.
    """
    ids = {name for name, each in requirements().items() if each.scope == scope}
    found = [
        fault
        for fault in catalogue().values()
        if (scope is None or ids.intersection(fault.aims))
        and (not only or any(map(fault.is_named, only)))
    ]
    if not found:
        raise click.UsageError(f"no fault is named {', '.join(only) or scope}")
    return found


def covering(faults: Sequence[Fault]) -> list[Fault]:
    """Faults that are aimed at every requirement that any of these is aimed at; none harmless."""
    found, covered = [], set[str]()
    # Those with most aims first: fewer are needed.
    for fault in sorted(faults, key=lambda fault: -len(fault.aims)):
        if not covered.issuperset(fault.aims):
            found.append(fault)
            covered.update(fault.aims)
    return [fault for fault in faults if fault in found]


def of_ports(faults: Sequence[Fault]) -> list[Fault]:
    """The faults that a port can have, with the aims that are requirements of ports."""
    ports = {name for name, each in requirements().items() if each.scope == "port"}
    able = [fault for fault in faults if can_be_port(fault)]
    kept = [replace(f, aims=tuple(aim for aim in f.aims if aim in ports)) for f in able]
    return [new for new, old in zip(kept, able, strict=True) if new.aims or old.harmless]


def pairs(faults: Sequence[Fault], backends: Sequence[str]) -> list[tuple[Fault, str]]:
    """Each fault with the backends to judge it on."""
    found = []
    for fault in faults:
        able = [name for name in backends if not fault.backends or name in fault.backends]
        shared = not fault.harmless and set(fault.stage.blame) <= set(SHARED)
        found += [(fault, name) for name in (able[:1] if shared else able)]
    return found


@click.command()
@click.option("--list", "listing", is_flag=True, help="Show the catalogue and exit.")
@click.option(
    "--only", multiple=True, metavar="ID", help="These ids, beginnings of ids, names, or aims."
)
@click.option("--cover", is_flag=True, help="As few faults as show that each requirement can fail.")
@click.option(
    "--scope", type=click.Choice(SCOPES), help="Those aimed at requirements of this scope."
)
@click.option("--backend", "backends", multiple=True, default=["onnx_cpu"], show_default=True)
@click.option("--jobs", type=click.IntRange(1), default=2, show_default=True)
@click.option("--whole", is_flag=True, help="Run a fault's tests beyond the first failure.")
@click.option(
    "--as-port",
    is_flag=True,
    help="Faults of networks, text, tokenizer, sampler and ISTFT, each as a Python port.",
)
@click.option("--in-process", is_flag=True, help="Such ports in the process of the suite.")
@click.option("--exec", "by_exec", is_flag=True, help="Such ports by exec:COMMAND.")
@click.option("--resume", is_flag=True, help="Keep the results that the JSON file already has.")
@click.option(
    "--checkout", type=click.Path(path_type=Path),
    help="With the tests of this package there. [the checkout that the package is in]",
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("faults"), show_default=True,
    help="Folder for faults.json and one log per fault.",
)  # fmt: skip
def faults(
    listing: bool,
    only: Sequence[str],
    cover: bool,
    scope: str | None,
    backends: Sequence[str],
    jobs: int,
    whole: bool,
    as_port: bool,
    in_process: bool,
    by_exec: bool,
    resume: bool,
    checkout: Path | None,
    output: Path,
) -> None:
    """Plant each known fault and harmless variation, and run the suite on it.

    Exit status 1 if a fault is missed or attributed to a wrong stage, or a harmless variation
    fails a test.
    """
    wanted = chosen(only, scope)
    wanted = covering(wanted) if cover else wanted
    if listing:
        for fault in wanted:
            kind = "harmless" if fault.harmless else "hard" if fault.hard else ""
            aims = " ".join(fault.aims)
            click.echo(f"{fault.id:58} {aims:12} {kind:8} {fault.story}")
        return
    port = (Subject(open_in_process) if in_process else Subject()) if as_port else None
    if port:
        wanted, backends = of_ports(wanted), backends[:1]
    document = output / "faults.json"
    results = matrix.read(document) if resume else []
    known = {(result.id, result.backend) for result in results}
    waiting = [(f, b) for f, b in pairs(wanted, backends) if (f.id, b) not in known]
    total = len(waiting) + len(results)
    with click.progressbar(
        length=total, label="faults", file=sys.stderr, hidden=not sys.stderr.isatty()
    ) as bar:
        bar.update(len(results))
        command = f"exec:{sys.executable} -m conformance.ports.server " if by_exec else ""
        settings = {"whole": whole, "checkout": checkout, "port": port, "command": command}
        for result in matrix.run(waiting, jobs, output / "logs", **settings):
            results.append(result)
            matrix.write(document, results)
            bar.update(1)
    order = {name: index for index, name in enumerate(catalogue())}
    results.sort(key=lambda result: (order.get(result.id, 0), result.backend))
    matrix.write(document, results)
    show(results)
    sys.exit(0 if results and all(result.right for result in results) else 1)


def show(results: Sequence[Result]) -> None:
    """The matrix as a table, then its totals."""
    for result in results:
        size = f"{result.quantity}: {result.worst} of {result.limit}" if result.worst else ""
        first = " ".join(result.requirements[:6]) + (" ..." if result.requirements[6:] else "")
        line = f"{result.id:58} {result.backend:12} {result.verdict:11} "
        missed = f"not {' '.join(result.missed)} " if result.missed else ""
        line += f"{result.blamed:2} {first:33} {missed}{size}{result.broken}"
        click.echo(line.rstrip())
        for convention in result.conventions:
            click.echo(f"      {convention}")
    for backend in sorted({result.backend for result in results}):
        own = [result for result in results if result.backend == backend]
        click.echo(f"{backend}: {json.dumps(totals(own))}")


def totals(results: Sequence[Result]) -> dict[str, int]:
    planted = [result for result in results if not result.harmless]
    return {
        "faults": len(planted),
        "caught": sum(bool(result.requirements) for result in planted),
        "blamed rightly": sum(result.right for result in planted),
        "harmless variations": len(results) - len(planted),
        "alarms": sum(bool(r.requirements) for r in results if r.harmless),
        "broken": sum(bool(r.broken) for r in results),
    }
