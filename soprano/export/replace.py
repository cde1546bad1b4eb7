"""A folder that is replaced as a whole: at any instant there is the old one or the new one."""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from soprano.errors import ModelError, SopranoError, brief
from soprano.regular_files import reason, resolved

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

_HERE = -100  # AT_FDCWD
_EXCHANGE = 2  # RENAME_EXCHANGE of renameat2(2)


@contextmanager
def replacing(target: Path, check: Callable[[], None] = lambda: None) -> Iterator[Path]:
    """A new folder, with the content of the target if there is one, that becomes the target.

    If the body fails, the target is unchanged. Folders that processes left that were killed here
    are removed.

    Args:
        target: the folder.
        check: raises an error if the target must not be replaced.

    Raises:
        ModelError: another process is replacing the same folder; the message names it.
    """
    target = resolved(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target):
        _recover(target)
        check()
        new = target.with_name(f".{target.name}.{secrets.token_hex(4)}.new")
        try:
            if target.exists():
                shutil.copytree(target, new)
            else:
                new.mkdir()
            yield new
            _flush(new)
            _replace(target, new)
        except OSError as error:
            error.filename = error.filename or str(target)
            raise
        finally:
            shutil.rmtree(new, ignore_errors=True)  # after an exchange, the old one


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A file that a library writes, whose errors may neither name it nor be an `OSError`."""
    try:
        yield path
    except (SopranoError, ValueError):
        raise
    except OSError as error:
        raise OSError(f"{path} cannot be written: {reason(error)}") from None
    except Exception as error:
        raise OSError(f"{path} cannot be written: {brief(error)}") from None


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Hold the lock file beside a folder, which names the process that holds it."""
    if fcntl is None:
        yield
        return
    path = target.with_name(f".{target.name}.lock")
    while True:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        with os.fdopen(os.open(path, flags, 0o666), "r+", encoding="ascii") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                holder = file.read(20).strip() or "another"
                raise ModelError(f"{target} is being written by process {holder}") from None
            if not _is_same(path, file.fileno()):
                continue  # its holder removed it in between
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            try:
                yield
            finally:
                path.unlink()
            return


def _is_same(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _recover(target: Path) -> None:
    """Remove what processes left that ended here; the lock shows that none is at work."""
    for path in target.parent.iterdir():
        if path.name.startswith(f".{target.name}.") and path.suffix in (".new", ".old"):
            if path.suffix == ".old" and not target.exists():
                path.rename(target)
            else:
                shutil.rmtree(path, ignore_errors=True)


def _flush(folder: Path) -> None:
    """Wait until the files of a folder and their names are on the disk."""
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            _sync(path)


def _replace(target: Path, new: Path) -> None:
    """Rename `new` to the target, and a target that exists to `new`."""
    if not target.exists():
        new.rename(target)
    elif not _exchange(target, new):
        # The file system cannot exchange: the old folder has another name for an instant, from
        # which the next call takes it back if this process ends there.
        old = new.with_suffix(".old")
        target.rename(old)
        try:
            new.rename(target)
        except BaseException:
            old.rename(target)
            raise
        shutil.rmtree(old, ignore_errors=True)
    _sync(target.parent)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two names in one operation; False if this system cannot."""
    exchange = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if exchange is None:
        return False
    if exchange(_HERE, os.fsencode(first), _HERE, os.fsencode(second), _EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(first))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
