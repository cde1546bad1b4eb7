"""Commands that write to a full disk and to a read-only folder: one sentence, nothing left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from .kills import source

SOPRANO, CONFORMANCE = (sys.executable, "-m", "soprano"), (sys.executable, "-m", "conformance")
_VOICE = ("-m", str(source()))
_SAY = (*SOPRANO, "say", "It is half past nine. Hello there!", *_VOICE, "--max-new-tokens", "60")
_EXPORT = (*SOPRANO, "export", *_VOICE)
# DIR is the folder that cannot be written to, or not enough.
COMMANDS: dict[str, tuple[str, ...]] = {
    "wav": (*_SAY, "-o", "DIR/a.wav"),
    "streamed wav": (*_SAY, "--stream", "-o", "DIR/a.wav"),
    "flac": (*_SAY, "-o", "DIR/a.flac"),
    "streamed flac": (*_SAY, "--stream", "-o", "DIR/a.flac"),
    "wav files": (*_SAY, "--lines", "-o", "DIR/files"),
    "onnx bundle": (*_EXPORT, "--to", "onnx", "-o", "DIR/bundle"),
    "int8 bundle": (*_EXPORT, "--to", "onnx", "--precision", "int8", "-o", "DIR/bundle"),
    "community bundle": (*_EXPORT, "--to", "onnx", "--layout", "community", "-o", "DIR/bundle"),
    "openvino bundle": (*_EXPORT, "--to", "openvino", "-o", "DIR/bundle"),
    "gguf": (*_EXPORT, "--to", "gguf", "-o", "DIR/bundle"),
    "bundles of the suite": (
        *CONFORMANCE, "export", "--to", "onnx", "--model", "v11", "-o", "DIR/bundles",
    ),
    "report of a run": (
        *CONFORMANCE, "run", "--backend", "onnx_cpu", "--model", "v11", "--only-model",
        "--requirement", "LM-06", "--report-dir", "DIR/report",
    ),
    "vector pack": (*CONFORMANCE, "vectors", "export", "--model", "v11", "-o", "DIR/pack"),
    "port": (*CONFORMANCE, "port", "init", "python", "-o", "DIR/port"),
    "page": (*CONFORMANCE, "report", "REPORT", "-o", "DIR/report.html"),
}  # fmt: skip
ROOM = (0, 8, 80)  # KiB on the disk; none means that its folder is read-only

# In a namespace of its own: a small disk, a command, and what is on the disk after it.
_INSIDE = """
import json, os, subprocess, sys
folder, room, words = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
def mount(*options):
    subprocess.run(["mount", "-t", "tmpfs", *options, folder], check=True)
mount("-o", f"size={room + 8}k", "none")
with open(os.path.join(folder, "kept"), "wb") as file:
    file.write(b"kept")
if room == 0:
    mount("-o", "remount,ro", "none")
done = subprocess.run(words, capture_output=True, text=True, errors="replace")
found = [os.path.join(at, name) for at, _, names in os.walk(folder) for name in names]
print(json.dumps([done.returncode, done.stdout[-2000:], done.stderr[-2000:], found]))
"""


def is_possible() -> bool:
    """Whether this process may make such a disk."""
    try:
        words = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"]
        return subprocess.run(words, capture_output=True).returncode == 0
    except OSError:
        return False


def faults_of(name: str, room: int, report: str) -> list[str]:
    """What is wrong with a command whose disk has that many KiB."""
    with tempfile.TemporaryDirectory() as folder:
        names = {"DIR": folder, "REPORT": report}
        words = [names.get(word, word.replace("DIR/", f"{folder}/")) for word in COMMANDS[name]]
        inside = [sys.executable, "-c", _INSIDE, folder, str(room), *words]
        done = subprocess.run(
            ["unshare", "-rm", *inside], capture_output=True, text=True, timeout=300, env=_ENV
        )
    if done.returncode:
        return [f"{name}, {room} KiB: {done.stderr}"]
    status, output, errors, found = json.loads(done.stdout)
    faults = []
    if "Traceback" in output + errors:
        faults.append(f"a traceback: {errors}")
    if status not in (0, 1, 2) or (status == 0 and room == 0):
        faults.append(f"status {status}: {errors}")
    if status and len((errors or output).strip().splitlines()) != 1:
        faults.append(f"not one line: {errors or output!r}")
    left = [path for path in found if not path.endswith("/kept")]
    if status and left:
        faults.append(f"left behind: {left}")
    print(f"{name}, {room} KiB: status {status}: {errors.strip() or output.strip()[-300:]}")
    return [f"{name}, {room} KiB: {fault}" for fault in faults]


_ENV = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


def run(names: list[str] | None = None) -> list[str]:
    """Every command on every disk. Returns the faults."""
    faults = []
    with tempfile.TemporaryDirectory() as report:
        words = [*CONFORMANCE, "run", "--backend", "onnx_cpu", "--model", "v11", "--only-model"]
        words += ["--requirement", "LM-06", "--report-dir", report]
        subprocess.run(words, check=True, capture_output=True, env=_ENV)
        for name in names or COMMANDS:
            for room in ROOM:
                faults += faults_of(name, room, report)
    return faults
