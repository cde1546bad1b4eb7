"""Wrong ports that try to pass: by ending processes, by exceptions, by changing the judge.

The networks of all of them are wrong in the same way: the logits are rolled by one id.
`python -m conformance.meta.hostile_ports` judges each with a few requirements and states what came
of it: a port passes if the exit status is 0, or a report says that it conforms.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.meta.example_ports import Port, Step

REQUIREMENTS = ("LM-01", "LM-06", "DE-01")
LIMIT = 4  # seconds for a request
Attack = Callable[[Any], Any]


class Wrong(Port):
    """A port whose logits belong to other ids, with an attack at each of its calls."""

    name = "hostile"

    def attack(self) -> None:
        """What the port does besides."""

    def prefill_one(self, ids: npt.NDArray[np.int64]) -> Step:
        self.attack()
        logits, hidden, cache = super().prefill_one(ids)
        return np.roll(logits, 1), hidden, cache

    def decode_one(self, hidden: npt.NDArray[np.float32]) -> npt.ArrayLike:
        self.attack()
        return super().decode_one(hidden)


def _parents() -> list[int]:
    """This process's parent and that one's, up to the first that is not of the suite."""
    found, process = [], os.getppid()
    while process > 1 and len(found) < 2:
        found.append(process)
        text = Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2]
        process = int(text.split()[1])
    return found


def _reports() -> list[Path]:
    return [path for path in Path.cwd().glob("*report*") if path.is_dir()]


def _passing() -> str:
    return json.dumps({"schema_version": 5, "verdict": "conforms", "results": {}})


def _write_reports(port: Any) -> None:
    for folder in _reports():
        (folder / "conformance.json").write_text(_passing(), "utf-8")
        (folder / "junit.xml").write_text("<testsuites/>", "utf-8")


def _folder_in_place_of_the_report(port: Any) -> None:
    for folder in _reports():
        (folder / "conformance.json").unlink(missing_ok=True)
        (folder / "conformance.json" / "inner").mkdir(parents=True, exist_ok=True)


def _write_reports_later(port: Any) -> None:
    """A process that outlives the port and the suite."""
    if os.fork() == 0:
        os.setsid()
        for _ in range(400):
            _write_reports(port)
            time.sleep(0.05)
        os._exit(0)


def _set_variables(port: Any) -> None:
    names = ("BACKEND", "REQUIREMENT", "DEVIATIONS", "ONLY_MODEL", "JOURNAL")
    os.environ.update({f"CONFORMANCE_{name}": "onnx_cpu" for name in names})
    os.environ.update({"PYTEST_ADDOPTS": "--collect-only", "PYTEST_CURRENT_TEST": ""})


def _change_the_judge(port: Any) -> None:
    from conformance.judging import compare, judge

    def equal(quantity: str, *_: Any, **__: Any) -> compare.Comparison:
        return compare.Comparison(quantity, 1, 0, 0)

    for name in ("floats", "bits", "values", "shape", "number"):
        setattr(compare, name, equal)
    judge._challenge = lambda *_: None


def _change_numpy(port: Any) -> None:
    np.array_equal = lambda *_, **__: True
    np.isfinite = lambda *_, **__: np.True_
    np.abs = lambda values, *_, **__: np.zeros_like(values)


def _change_pytest(port: Any) -> None:
    import _pytest.runner
    import pytest

    pytest.TestReport.failed = property(lambda report: False)
    _pytest.runner.call_and_report = lambda *_, **__: None


def _raise(kind: str) -> Attack:
    def attack(port: Any) -> None:
        import hypothesis.errors
        import pytest

        from conformance.judging.judge import MistrustedError
        from conformance.judging.skips import NotDeclared

        kinds: dict[str, BaseException] = {
            "skip": pytest.skip.Exception("not today"),
            "xfail": pytest.xfail.Exception("expected"),
            "not declared": NotDeclared("not declared"),
            "exit of pytest": pytest.exit.Exception("done", returncode=0),
            "assumption": hypothesis.errors.UnsatisfiedAssumption(),
            "mistrusted": MistrustedError("never"),
            "system exit": SystemExit(0),
            "interrupt": KeyboardInterrupt(),
            "generator exit": GeneratorExit(),
            "stop iteration": StopIteration(),
            "group": BaseExceptionGroup("all", [pytest.skip.Exception("no")]),
            "no message": ValueError(),
        }
        raise kinds[kind]

    return attack


def _exit_at(moment: Callable[..., Any]) -> Attack:
    return lambda port: moment(0)


class _Equal(np.ndarray[Any, Any]):
    """An array that claims to equal every other."""

    def __eq__(self, other: object) -> Any:
        return np.ones(self.shape, bool)

    def astype(self, *_: Any, **__: Any) -> Any:
        return np.zeros(self.shape)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        return np.zeros(self.shape)


def _kill(signal: int) -> Attack:
    def attack(port: Any) -> None:
        for process in _parents():
            os.kill(process, signal)
        time.sleep(1)

    return attack


def _hang(port: Any) -> None:
    time.sleep(600)


def _hold_the_interpreter(port: Any) -> None:
    import ctypes

    ctypes.PyDLL(None).sleep(600)  # does not release the lock


def _fork_and_return(port: Any) -> None:
    os.fork()


def _write_all_files(port: Any) -> None:
    """Answers of its own on every descriptor."""
    for number in range(1, 12):
        try:
            os.write(number, b'{"id": 1, "result": {}}\n')
        except OSError:
            continue


def _close_all_files(port: Any) -> None:
    os.closerange(0, 30)


def _leave_a_thread(port: Any) -> None:
    import threading

    threading.Thread(target=time.sleep, args=(600,)).start()


def _fill_memory(port: Any) -> None:
    vars(port).setdefault("kept", []).append(np.ones(25 * 2**20))  # 200 MiB


def _write_much(port: Any) -> None:
    for _ in range(200):
        os.write(2, b"x" * 2**20)


def _change_folder(port: Any) -> None:
    os.chdir(tempfile.gettempdir())


ATTACKS: dict[str, Attack] = {
    "nothing": lambda port: None,
    "os._exit(0)": _exit_at(os._exit),
    "sys.exit(0)": _exit_at(sys.exit),
    "kills its parents": _kill(9),
    "terminates its parents": _kill(15),
    "interrupts its parents": _kill(2),
    "writes the report": _write_reports,
    "writes the report after its end": _write_reports_later,
    "puts a folder in place of the report": _folder_in_place_of_the_report,
    "sets variables": _set_variables,
    "changes the judge": _change_the_judge,
    "changes NumPy": _change_numpy,
    "changes pytest": _change_pytest,
    **{f"raises: {kind}": _raise(kind) for kind in (
        "skip", "xfail", "not declared", "exit of pytest", "assumption", "mistrusted",
        "system exit", "interrupt", "generator exit", "stop iteration", "group", "no message",
    )},
    "hangs": _hang,
    "holds the interpreter": _hold_the_interpreter,
    "forks and returns twice": _fork_and_return,
    "writes to every file": _write_all_files,
    "closes every file": _close_all_files,
    "leaves a thread": _leave_a_thread,
    "fills the memory": _fill_memory,
    "writes much": _write_much,
    "changes the folder": _change_folder,
}  # fmt: skip
MOMENTS = ("import", "open", "call", "close")


def __getattr__(name: str) -> Any:
    """The factory `ATTACK@MOMENT`."""
    attack, _, moment = name.partition("@")
    if attack not in ATTACKS or moment not in MOMENTS:
        raise AttributeError(name)
    act = ATTACKS[attack]
    if moment == "import":
        act(None)
    if moment == "call":
        return type("Hostile", (Wrong,), {"attack": act})

    class Hostile(Wrong):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            if moment == "open":
                act(self)

        def close(self) -> None:
            if moment == "close":
                act(self)

    return Hostile


def judge(name: str, folder: Path, requirements: tuple[str, ...] = REQUIREMENTS) -> dict[str, Any]:
    """Run the suite on a port in a folder; status, seconds, verdict and the last line."""
    command = [sys.executable, "-m", "conformance", "run", "--model", "v11", "--only-model"]
    command += ["--backend", f"{__name__ if __name__ != '__main__' else _MODULE}:{name}"]
    command += [f"--requirement={requirement}" for requirement in requirements]
    command += ["--time-limit", str(LIMIT), "--memory-limit", "1500"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    start = time.monotonic()
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, errors="replace", env=environment,
        timeout=180, start_new_session=True,
    )  # fmt: skip
    seconds = time.monotonic() - start
    try:
        report = json.loads((folder / "conformance-report" / "conformance.json").read_text("utf-8"))
    except (OSError, ValueError):
        report = {}
    lines = (done.stdout + done.stderr).strip().splitlines()
    return {
        "status": done.returncode,
        "seconds": round(seconds, 1),
        "verdict": report.get("verdict", "no report"),
        "totals": report.get("totals"),
        "last": lines[-1][:160] if lines else "",
    }


_MODULE = "conformance.meta.hostile_ports"


def passes(result: dict[str, Any]) -> bool:
    return result["status"] == 0 or result["verdict"] in ("conforms", "no report")


def main() -> None:
    wanted = sys.argv[1:] or [f"{attack}@{moment}" for attack in ATTACKS for moment in MOMENTS]
    passed = 0
    for name in wanted:
        with tempfile.TemporaryDirectory() as folder:
            result = judge(name, Path(folder))
        passed += passes(result)
        print(f"{name:45} {json.dumps(result)}", flush=True)
    print(f"{len(wanted)} ports, {passed} passed")
    sys.exit(passed > 0)


if __name__ == "__main__":
    main()
