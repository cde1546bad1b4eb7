"""AT: what a backend says of the configuration that it is really in."""

from __future__ import annotations

import os

import pytest

from conformance.golden.observations import observe_prefill, spectra
from conformance.judging import tolerances
from soprano.backends import open_backend

FIELDS = ("version", "device", "threads", "precision", "cache precision", "optimisation")
# A precision class says how weights are stored; computing in float32 is always allowed.
WIDE = {"float32", "f32", "torch.float32", "tensor(float)"}
NARROW = {"fp32": set(), "fp16": {"float16", "f16", "torch.float16"}, "bf16": {"bfloat16", "bf16"}}
# A runtime may refuse more threads than there are cores that this process may use.
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
THREADS = range(1, min(4, CORES) + 1)


@pytest.mark.requirement("AT-01")
def test_every_field_has_a_value_and_says_how_it_is_known(backend, judge):
    found = backend.attest()
    judge.equal("fields that lack", [name for name in FIELDS if name not in found], [])
    for name, attested in found.items():
        judge.equal(f"{name} has a value", bool(attested.value.strip()), True)
        known = attested.how in ("read back", "inferred", "unavailable")
        judge.equal(f"{name} says how it is known", known, True)


@pytest.mark.requirement("AT-02")
@pytest.mark.parametrize("field", ["precision", "cache precision"])
def test_the_attested_precision_is_that_of_the_declared_class(backend, judge, field):
    attested = backend.attest()[field]
    allowed = WIDE | NARROW.get(backend.capabilities.precision, {backend.capabilities.precision})
    refuted = attested.how != "unavailable" and attested.value not in allowed
    judge.equal(f"{field} {attested.value} under {backend.capabilities.precision}", refuted, False)


@pytest.mark.requirement("AT-03")
def test_the_attested_threads_are_those_asked_for(backend, judge, pytestconfig):
    from conformance.options import option

    asked, attested = option(pytestconfig, "threads"), backend.attest()["threads"]
    wrong = asked is not None and attested.how == "read back" and attested.value != str(asked)
    judge.equal(f"{attested.value} threads where {asked} were asked for", wrong, False)


@pytest.mark.requirement("AT-04")
@pytest.mark.parametrize("threads", THREADS)
def test_whatever_the_threads_it_says_what_the_oracle_says(
    backend, vectors, judge, request, threads
):
    name, folder = request.node.callspec.params["backend"]
    before = backend.attest()["threads"].value
    opened = open_backend(name, folder, backend.capabilities.precision, threads)
    try:
        found = {**observe_prefill(opened, vectors.arrays), **spectra(opened, vectors.arrays)}
    finally:
        opened.close()
        if before.isdigit():  # PyTorch has one thread pool a process
            open_backend(name, folder, backend.capabilities.precision, int(before)).close()
    for quantity, actual in found.items():
        expected = vectors.arrays[quantity]
        limit = tolerances.against_oracle(
            quantity, vectors.floors[quantity], expected, backend.config
        )
        judge.close(quantity, actual, expected, limit, decoys=(actual[::-1],))
