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
    if any(names_module(argument, known.pyargs) for argument in [*known.file_or_dir, *unknown]):
        from conformance.installation import problem

        if found := problem():
            raise pytest.UsageError(found)
        early_config.pluginmanager.import_plugin("conformance.plugin")


def names_module(argument: str, pyargs: bool, module: str = "conformance") -> bool:
    """Whether an argument names the suite or a part: by module after `--pyargs`, or by path."""
    name = str(argument).split("::")[0]
    if pyargs and f"{name}.".startswith(f"{module}."):
        return True
    folder, path = _PACKAGE.parent.joinpath(*module.split(".")), Path(name).resolve()
    return path == folder or folder in path.parents
