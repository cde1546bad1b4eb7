"""Whether the installed package `soprano` is whole: `soprano-tts` provides one of the same name.

Whichever was installed last has overwritten files of the other, and removing one removes files of
both. Nothing of `soprano` is imported here: it may be the other one, or raise an error.
"""

from __future__ import annotations

from importlib.metadata import Distribution, distributions
from importlib.util import find_spec
from pathlib import Path

NAME = "soprano-conformance"


def problem() -> str | None:
    """What is wrong with the package `soprano`, and what to do, in one sentence."""
    spec = find_spec("soprano")
    places = list(spec.submodule_search_locations or ()) if spec else []
    root = Path(places[0]).parent if places else Path()
    found = {installed.name: installed for installed in distributions(path=[str(root)])}
    own = found.pop(NAME, None)
    if others := [name for name, installed in found.items() if _files(installed)]:
        names = " ".join([*others, NAME])
        return (
            f"the distributions {NAME} and {' and '.join(others)} both provide the package "
            f"'soprano': run `pip uninstall {names}`, then install them into separate environments"
        )
    lost = [file for file in _files(own) if not (root / file).exists()] if own else []
    if lost or spec is None or spec.origin is None:
        reinstall = f"pip install --force-reinstall --no-deps {NAME}"
        return f"{(lost or ['soprano/__init__.py'])[0]} is missing: run `{reinstall}`"
    return None


def _files(installed: Distribution) -> list[str]:
    """The modules of the package that a distribution has written."""
    lines = (installed.read_text("RECORD") or "").splitlines()
    names = (line.split(",")[0] for line in lines)
    return [name for name in names if name.startswith("soprano/") and name.endswith(".py")]
