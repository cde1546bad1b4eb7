"""Ports that fail in every way, or try to pass: a report, no false pass, within the time limit."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time

import pytest

from conformance.meta import hostile_ports
from conformance.meta.hostile_ports import ATTACKS

PROGRAM = """
import json, os, signal, sys, time
mode = sys.argv[1]
def write(message):
    sys.stdout.write(json.dumps(message) + "\\n"); sys.stdout.flush()
def output(logits=91, hidden=24, value=0.0, **more):
    write({"id": number, "result": {"logits": [value] * logits, "hidden": [value] * hidden,
                                    "state": 1, **more}})
for line in sys.stdin:
    request = json.loads(line); number, method = request.get("id"), request["method"]
    if method == "hello":
        write({"id": number, "result": {"protocol": 1, "name": mode, "version": "1",
               "methods": ["prefill_one", "step_one", "decode_one"]}})
    elif mode == "hangs": time.sleep(60)
    elif mode == "dies": os.kill(os.getpid(), signal.SIGSEGV)
    elif mode == "exits": os._exit(0)
    elif mode == "answers the request before": write({"id": number - 1, "result": {}})
    elif mode == "answers the next request": write({"id": number + 1, "result": {}})
    elif mode == "answers twice": output(); output()
    elif mode == "nan": output(value=float("nan"))
    elif mode == "infinity": output(value=1e999)
    elif mode == "wrong shape": output(logits=90)
    elif mode == "all positions": output(logits=910)
    elif mode == "nothing": write({"id": number, "result": None})
    elif mode == "no state": write({"id": number, "result": {"logits": [0.0], "hidden": [0.0]}})
    elif mode == "half a line": sys.stdout.write('{"id": '); sys.stdout.flush(); time.sleep(60)
    elif mode == "half a line at its end": os.write(1, b'{"id": '); os._exit(0)
    elif mode == "text": print("loading", flush=True)
    elif mode == "deep": print("[" * 100000, flush=True)
    elif mode == "a gigabyte":
        for _ in range(1024): os.write(1, b"x" * 2**20)
    elif mode == "many lines":
        while True: print("{}", flush=True)
    elif mode == "no utf-8": os.write(1, b'\\xff\\xfe\\n')
"""
# The verdict of LM-04, and a part of its message.
PROGRAMS = {
    "hangs": ("error", "no answer to prefill_one within 3 s"),
    "dies": ("error", "ended by SIGSEGV"),
    "exits": ("error", "ended with status 0"),
    "answers the request before": ("error", "was answered twice"),
    "answers the next request": ("error", "of no request"),
    "answers twice": ("error", "was answered twice"),
    "nan": ("fail", "not finite"),
    "infinity": ("fail", "not finite"),
    "wrong shape": ("fail", r"must have shape \(91,\), got \(90,\)"),
    "all positions": ("fail", r"must have shape \(91,\), got \(910,\)"),
    "nothing": ("error", "has no 'logits'"),
    "no state": ("error", "has no 'state'"),
    "half a line": ("error", "no answer to prefill_one within 3 s"),
    "half a line at its end": ("error", "no line end"),
    "text": ("error", "is not JSON"),
    "deep": ("error", "is not JSON"),
    "a gigabyte": ("error", "a line is too long|no answer"),
    "many lines": ("error", "of no request"),
    "no utf-8": ("error", "is not JSON"),
}


def run(folder, backends, requirements, *options):
    """The suite on ports: the result of the process, and the report."""
    command = [sys.executable, "-m", "conformance", "run", "--model", "v11", "--only-model"]
    command += [f"--requirement={name}" for name in requirements]
    command += [word for name in backends for word in ("--backend", name)]
    done = subprocess.run(
        [*command, *options], cwd=folder, capture_output=True, text=True, timeout=600
    )
    path = folder / "conformance-report" / "conformance.json"
    return done, json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """The verdicts of LM-01 on all programs, by mode."""
    folder = tmp_path_factory.mktemp("programs")
    (folder / "port.py").write_text(PROGRAM, encoding="utf-8")
    names = {mode: f"exec:{sys.executable} port.py '{mode}'" for mode in PROGRAMS}
    start = time.monotonic()
    done, report = run(folder, names.values(), ["LM-01"], "--time-limit", "3")
    assert done.returncode == 1, done.stdout + done.stderr
    assert time.monotonic() - start < 300
    assert report["verdict"] == "does not conform"
    return {mode: report["results"][f"{name}-v11"]["LM-01"] for mode, name in names.items()}


@pytest.mark.parametrize("mode", PROGRAMS)
def test_a_program_that_fails_gets_a_named_verdict(programs, mode):
    verdict, reason = PROGRAMS[mode]
    assert programs[mode]["verdict"] in (verdict, "error")
    assert re.search(reason, programs[mode]["failures"][0])


# These end the run, or take long; `python -m conformance.meta.hostile_ports` judges all of them.
ALONE = ("kills its parents", "terminates its parents", "interrupts its parents")
SLOW = ("holds the interpreter", "hangs", "fills the memory", "closes every file")


def test_no_hostile_port_passes(tmp_path):
    names = {a: f"conformance.meta.hostile_ports:{a}@call" for a in ATTACKS if a not in ALONE}
    names = {attack: name for attack, name in names.items() if attack not in SLOW[1:]}
    done, report = run(tmp_path, names.values(), ["LM-01"], "--time-limit", "10")
    assert done.returncode == 1, done.stdout + done.stderr
    assert report["verdict"] == "does not conform"
    verdicts = {a: report["results"][f"{name}-v11"]["LM-01"] for a, name in names.items()}
    passed = {a for a, entry in verdicts.items() if entry["verdict"] not in ("fail", "error")}
    assert passed == set(), done.stdout


@pytest.mark.skipif(not os.path.exists("/proc"), reason="ports find the suite by /proc")
def test_a_port_that_kills_the_suite_leaves_a_report_without_a_verdict(tmp_path):
    result = hostile_ports.judge("kills its parents@call", tmp_path, ("LM-01",))
    assert result["status"] not in (0, 1)
    assert result["verdict"] == "no verdict"


def test_a_port_in_the_process_of_the_suite_that_hangs_is_ended(tmp_path):
    name = "conformance.meta.hostile_ports:holds the interpreter@call"
    done, report = run(tmp_path, [name], ["LM-01"], "--in-process", "--time-limit", "1")
    assert done.returncode == 1
    failure = report["results"][f"{name}-v11"]["LM-01"]["failures"][0]
    assert "no answer within 20 s" in failure
