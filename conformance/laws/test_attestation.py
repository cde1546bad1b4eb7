"""AT: the effective configuration that a backend attests."""

import os

import pytest

from conformance.golden.observations import observe_decoder, observe_prefill
from conformance.options import option

FIELDS = ("version", "device", "threads", "precision", "cache precision", "optimisation")
# A precision class describes the weights; computation in float32 is always allowed.
WIDE = {"float32", "f32", "torch.float32", "tensor(float)"}
NARROW = {"fp32": set(), "fp16": {"float16", "f16", "torch.float16"}, "bf16": {"bfloat16", "bf16"}}
# A runtime may reject more threads than there are cores that this process may use.
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
THREADS = range(1, min(4, CORES) + 1)


@pytest.mark.requirement("AT-01")
def test_every_attested_field_has_a_value_and_how_it_is_known(backend, judge):
    attestation = backend.attest()
    judge.equal("missing fields", [name for name in FIELDS if name not in attestation], [])
    for name, attested in attestation.items():
        judge.equal(f"{name} has a value", bool(attested.value.strip()), True)
        known = attested.how in ("read back", "inferred", "unavailable")
        judge.equal(f"{name} states how it is known", known, True)


@pytest.mark.requirement("AT-02")
@pytest.mark.parametrize("field", ["precision", "cache precision"])
def test_the_attested_precision_is_that_of_the_declared_class(backend, judge, field):
    attested = backend.attest()[field]
    allowed = WIDE | NARROW.get(backend.capabilities.precision, {backend.capabilities.precision})
    wrong = attested.how != "unavailable" and attested.value not in allowed
    judge.equal(f"{field} {attested.value} under {backend.capabilities.precision}", wrong, False)


@pytest.mark.requirement("AT-03")
def test_the_attested_threads_are_those_requested(backend, judge, pytestconfig):
    requested, attested = option(pytestconfig, "threads"), backend.attest()["threads"]
    read_back = attested.how == "read back"
    wrong = requested is not None and read_back and attested.value != str(requested)
    judge.equal(f"{attested.value} threads where {requested} were requested", wrong, False)


@pytest.mark.requirement("AT-04")
@pytest.mark.parametrize("threads", THREADS)
def test_every_thread_count_matches_the_oracle(
    backend, subject, vectors, judge, request, model, threads
):
    name, precision = request.node.callspec.params["backend"][0], backend.capabilities.precision
    before = backend.attest()["threads"].value
    opened = subject.open(name, model, precision, threads)
    try:
        observed = observe_prefill(opened, vectors.arrays)
        observed |= observe_decoder(subject.stages_of(opened, model), vectors.arrays)
    finally:
        opened.close()
        if before.isdigit():  # PyTorch has one thread pool per process
            subject.open_backend(name, model, precision, int(before)).close()
    with judge.together():
        for quantity, actual in observed.items():
            expected, limit = vectors.arrays[quantity], vectors.limit(quantity)
            places = vectors.places(quantity)
            judge.close(quantity, actual, expected, limit, decoys=(actual[::-1],), places=places)
