"""Processes that were forked: the threads of runtimes do not exist in them.

What waits for such a thread waits forever: a call, the release of a session, the end of the
process. `multiprocessing` forks with the start method `fork`, and does not with `spawn`.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
import threading
import weakref

from soprano.errors import BackendError

_owners: weakref.WeakSet[object] = weakref.WeakSet()  # of sessions that have threads
# The thread of this process that is older than it, if it was forked. A process of multiprocessing
# may have been forked before this module was imported.
_process = "multiprocessing.process"
# Another thread may be importing that module: the import waits until it is complete.
_parent = importlib.import_module(_process).parent_process if _process in sys.modules else None
_forked_thread = threading.get_ident() if _parent and _parent() else None


class Process:
    """The process that something was opened in, which must be used in no other."""

    def __init__(self, name: str, owner: object) -> None:
        self._name, self._id = name, os.getpid()
        _owners.add(owner)

    def require_current(self) -> None:
        if os.getpid() != self._id:
            raise BackendError(
                f"{self._name} was opened in process {self._id} and cannot be used in "
                f"{os.getpid()}, which was forked from it: open it again there, or start "
                "processes with the method 'spawn'"
            )


def thread_was_forked() -> bool:
    """Whether the calling thread is older than its process."""
    return threading.get_ident() == _forked_thread


def _in_child() -> None:
    global _forked_thread
    _forked_thread = threading.get_ident()
    for owner in _owners:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(owner))  # it is never released
    c = ctypes.CDLL(None)
    if _owners and "onnxruntime" in sys.modules and hasattr(c, "on_exit"):
        # ONNX Runtime's cleanup at the end of a process waits too; this ends it before.
        c.on_exit(c._exit, None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
