"""AT: the effective configuration that a backend attests."""

import os

import pytest

from conformance.golden.inputs import long_hidden
from conformance.golden.observations import observe_decoder, observe_prefill
from conformance.judging import tolerances
from conformance.judging.processor_time import threads_used
from conformance.judging.skips import NotDeclared
from conformance.laws.support.coverage import share
from conformance.laws.support.interleaving import decoded
from conformance.options import option

FIELDS = ("version", "device", "threads", "precision", "cache precision", "optimisation")
# A precision class describes the weights; computation in float32 is always allowed.
WIDE = {"float32", "f32", "torch.float32", "tensor(float)"}
NARROW = {"fp32": set(), "fp16": {"float16", "f16", "torch.float16"}, "bf16": {"bfloat16", "bf16"}}
# A runtime may reject more threads than there are cores that this process may use.
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
THREADS = range(1, min(4, CORES) + 1)
TRIES, SECONDS = 5, 0.15  # of a measurement of processor time


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


@pytest.fixture
def open_with(backend, subject, request, model):
    """`open_with(threads)`: a backend on the model under test, closed at the end of the test."""
    name, precision = request.node.callspec.params["backend"][0], backend.capabilities.precision
    before, opened = backend.attest()["threads"].value, []

    def open_one(threads):
        opened.append(subject.open(name, model, precision, threads))
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()
    if before.isdigit():  # PyTorch has one thread pool per process
        subject.open_backend(name, model, precision, int(before)).close()


@pytest.mark.requirement("AT-04")
@pytest.mark.parametrize("threads", THREADS)
def test_every_thread_count_matches_the_oracle(open_with, subject, vectors, judge, model, threads):
    opened = open_with(threads)
    observed = observe_prefill(opened, vectors.arrays)
    observed |= observe_decoder(subject.stages_of(opened, model), vectors.arrays)
    with judge.together():
        for quantity, actual in observed.items():
            expected, limit = vectors.arrays[quantity], vectors.limit(quantity)
            places = vectors.places(quantity)
            judge.close(quantity, actual, expected, limit, decoys=(actual[::-1],), places=places)


@pytest.mark.requirement("AT-06")
@pytest.mark.parametrize("threads", [1, 2])
def test_no_more_threads_share_the_work_than_are_attested(
    request, vectors, judge, open_with, threads
):
    if threads not in share(request, [1, 2]) or threads > CORES:
        raise NotDeclared("another model takes this number of threads, or there are fewer cores")
    opened = open_with(threads)
    open_with(3 - threads)  # which may change the threads of all backends
    attested = opened.attest()["threads"].value
    claimed = [name for name in ("version", "device", "optimisation") if name in opened.attest()]
    if not attested.isdigit():
        raise NotDeclared(f"no number of threads is attested: {attested}")
    hidden = long_hidden(vectors.arrays, 256)
    limit = int(attested) * tolerances.THREADS
    # In the first measurement, threads that opened the other backend may still be spinning. Of the
    # rest the largest counts: on a busy machine one thread may do most of the work for a while.
    measured = [threads_used(lambda: decoded(opened, hidden), SECONDS) for _ in range(TRIES)]
    used = max(measured[1:])
    if used * tolerances.THREADS < int(attested):
        claimed.append(f"{attested} threads ({used:.1f} in use)")
    judge.note(f"claimed, and not verified: {', '.join(claimed)}")
    name = f"threads in use where {attested} are attested"
    judge.below(name, used, limit, wrong=2 * int(attested))
