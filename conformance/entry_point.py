"""The pytest plugin that every pytest run of an environment loads.

It loads the plugin of the suite if an argument names the suite, and does nothing else: options,
fixtures and hooks of the suite must not reach the runs of other projects.
"""

from __future__ import annotations

from pathlib import Path

import pytest

_PACKAGE = Path(__file__).resolve().parent


@pytest.hookimpl(tryfirst=True)  # before conftest files are loaded, which may load the plugin too
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> None:
    known, unknown = parser.parse_known_and_unknown_args(args)
    # Older versions of pytest take an argument that follows an unknown option for its value.
    if any(_names_the_suite(name, known.pyargs) for name in [*known.file_or_dir, *unknown]):
        early_config.pluginmanager.import_plugin("conformance.plugin")


def _names_the_suite(argument: str, pyargs: bool) -> bool:
    """Whether an argument is `conformance...` after `--pyargs`, or a path inside the package."""
    name = str(argument).split("::")[0]
    if pyargs and name.split(".")[0] == _PACKAGE.name:
        return True
    path = Path(name).resolve()
    return path == _PACKAGE or _PACKAGE in path.parents
