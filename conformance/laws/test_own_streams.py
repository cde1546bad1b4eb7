"""ST: when the chunks of a port's own `stream` come, how long they are, and when it ends."""

import gc
from time import perf_counter, sleep

import pytest

from conformance.judging import tolerances
from conformance.judging.processor_time import processor_time
from conformance.judging.skips import NotDeclared
from conformance.laws.support.coverage import share
from conformance.laws.support.own_loops import own_loops

TOKENS, CHUNK, SMALL = 256, 32, 8  # of the stream that is timed, and of its chunks
TRIES = 3
IDLE = 0.1  # seconds


@pytest.fixture
def own(backend):
    return own_loops(backend)


@pytest.fixture
def stream(own, judge):
    own.require("stream")
    return own.backend.stream


@pytest.mark.requirement("ST-10")
def test_an_own_stream_delivers_samples_before_its_last_token(vectors, judge, own, stream):
    utterance = own.streamed(vectors, TOKENS)
    best = 1.0
    for _ in range(TRIES):
        start = perf_counter()
        times = [
            perf_counter() - start for chunk in stream(*utterance.arguments, CHUNK) if len(chunk)
        ]
        best = min(best, times[0] / (perf_counter() - start) if times else 1.0)
        if best <= tolerances.FIRST_CHUNK:
            break
    judge.below(
        "time to the first samples of the whole time", best, tolerances.FIRST_CHUNK, wrong=0.9
    )


@pytest.mark.requirement("ST-11")
@pytest.mark.parametrize("chunk_size", [4, CHUNK])
def test_chunks_of_an_own_stream_have_about_the_requested_size(
    stages, vectors, judge, own, stream, chunk_size
):
    utterance = own.streamed(vectors, 8 * chunk_size)
    per_token = stages.config.decoder.samples_per_token
    chunks = list(stream(*utterance.arguments, chunk_size))
    for chunk in chunks:
        judge.equal("type and axes", (str(chunk.dtype), chunk.ndim), ("float32", 1))
    tokens = [len(chunk) / per_token for chunk in chunks if len(chunk)]
    total = len(utterance.ids) - 1
    most = tolerances.CHUNK_FACTOR * chunk_size + tolerances.CHUNK_TOKENS
    judge.below("tokens of the largest chunk", max(tokens, default=total), most, wrong=total)
    allowed = tolerances.CHUNK_FACTOR * total / chunk_size + 2
    judge.below("chunks", len(tokens), allowed, wrong=total * per_token)


def lateness(chunks, total):
    """By how much of the whole time a chunk is later than its share of all samples, at most."""
    start, delivered, times = perf_counter(), 0, [(0, 0.0)]
    for chunk in chunks:
        delivered += len(chunk)
        if len(chunk):
            times.append((delivered, perf_counter() - start))
    whole = perf_counter() - start
    return max(seconds / whole - samples / total for samples, seconds in times)


@pytest.mark.requirement("ST-12")
def test_an_own_stream_delivers_every_chunk_when_its_tokens_are_there(
    stages, vectors, judge, own, stream
):
    utterance = own.streamed(vectors, TOKENS)
    total = (len(utterance.ids) - 1) * stages.config.decoder.samples_per_token
    best = 1.0
    for _ in range(TRIES):
        best = min(best, lateness(stream(*utterance.arguments, CHUNK), total))
        if best <= tolerances.LATE_CHUNK:
            break
    judge.below("delay of a chunk of the whole time", best, tolerances.LATE_CHUNK, wrong=0.6)


QUIET = 0.1  # of the time: processor time of a process in which nothing is generated
PIECES = 8  # of the time of a whole stream


def spent_until_quiet(seconds, usual):
    """Processor time until there is hardly any for half of the seconds, or for four times as many.

    `usual` is the processor time per second of a process in which nothing is generated.
    """
    spent, quiet = 0.0, 0
    for _ in range(4 * PIECES):
        before, start = processor_time(), perf_counter()
        sleep(seconds / PIECES)
        elapsed = perf_counter() - start
        own = processor_time() - before - usual * elapsed
        spent += max(own, 0.0)
        quiet = quiet + 1 if own < QUIET * elapsed else 0
        if quiet == PIECES // 2:
            break
    return spent


def spent_after(end, own, stream, arguments, usual):
    """Processor time after the first chunk of a stream, of what the rest of the stream takes."""
    start, begin = processor_time(), perf_counter()
    for _ in stream(*arguments):
        pass
    whole, seconds = processor_time() - start, perf_counter() - begin
    gc.collect()
    start = processor_time()
    chunks = iter(stream(*arguments))
    next(chunks)
    if end == "closed" and hasattr(chunks, "close"):
        chunks.close()
    del chunks
    own.backend.attest()  # with this call, a port in another process learns of the end
    # On a busy machine, a thread that generates ahead may have come far before the end.
    rest = max(whole - (processor_time() - start), whole / PIECES)
    return spent_until_quiet(seconds, usual) / rest


@pytest.mark.requirement("ST-13")
@pytest.mark.parametrize("end", ["closed", "dropped"])
def test_generation_ends_with_its_own_stream(request, vectors, judge, own, stream, end):
    if not share(request, [end]):
        raise NotDeclared("another model of the run takes this case")
    arguments = (*own.streamed(vectors, TOKENS).arguments, SMALL)
    before, start = processor_time(), perf_counter()
    sleep(IDLE)
    usual = (processor_time() - before) / (perf_counter() - start)
    best = 1.0
    for _ in range(TRIES):
        best = min(best, spent_after(end, own, stream, arguments, usual))
        if best <= tolerances.AFTER_THE_END:
            break
    name = f"processor time after a stream was {end}, of that of the rest of the stream"
    judge.below(name, best, tolerances.AFTER_THE_END, wrong=0.6)
