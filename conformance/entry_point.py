"""The pytest plugin that every pytest run of an environment loads: it loads the suite on request.

The suite adds options, fixtures and hooks. A run that does not ask for it must not see them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

_PACKAGE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Load the suite if an argument names it: `--pyargs conformance...`, or a path inside it."""
    known = early_config.known_args_namespace
    if any(_names_the_suite(str(argument), known.pyargs) for argument in known.file_or_dir):
        early_config.pluginmanager.import_plugin("conformance.plugin")


def _names_the_suite(argument: str, pyargs: bool) -> bool:
    name = argument.split("::")[0].split("[")[0]
    if pyargs and name.split(".")[0] == _PACKAGE.name:
        return True
    path = Path(name).resolve()
    return path == _PACKAGE or _PACKAGE in path.parents
