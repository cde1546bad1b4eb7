"""The exceptions that this package raises."""


class SopranoError(Exception):
    """The base class of this package's exceptions."""


class ModelError(SopranoError, ValueError):
    """A model folder is missing, incomplete, damaged or not of this family."""


class MissingExtraError(SopranoError, ImportError):
    """An optional dependency of the requested feature is not installed."""


class BackendError(SopranoError, RuntimeError):
    """A backend is unknown, cannot do what was requested, or was used against its protocol."""
