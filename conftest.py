"""Plain `pytest` in a checkout runs the suite as the installed plugin would."""

pytest_plugins = ["conformance.plugin"]
