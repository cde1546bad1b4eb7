"""What a caller may have to catch."""


class SopranoError(Exception):
    """Base of every error this package raises on purpose."""


class ModelError(SopranoError, ValueError):
    """A model folder is missing, incomplete, damaged or not of this family."""


class MissingExtraError(SopranoError, ImportError):
    """A runtime was asked for whose optional dependency is not installed."""


class BackendError(SopranoError, RuntimeError):
    """A backend is unknown, did not grant what was asked for, or was used against its protocol."""
