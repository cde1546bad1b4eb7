"""Faults at certain numbers of positions, tokens and rows only."""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance.faults.fault import BATCHING, CACHE, DECODER, LANGUAGE_MODEL, fault
from conformance.faults.network_hooks import TYPED_GRAPHS, with_rounded_input
from conformance.faults.plant import Wrapper, with_backend
from conformance.faults.planted.cache import with_hidden_columns
from conformance.faults.planted.decoder import DecodeWrapper
from conformance.faults.planted.language_model import OutputWrapper
from conformance.faults.planted.positions import with_positions
from conformance.subject import Subject
from soprano.backends import Output


@fault(LANGUAGE_MODEL, "LM-03", hard=True)
def positions_end_at_768(subject: Subject) -> Subject:
    """Positions index a table of 768 entries and are clamped at its end."""
    return with_positions(subject, lambda positions, stepping: np.minimum(positions, 767))


@fault(LANGUAGE_MODEL, "LM-03", hard=True)
def last_position_begins_again(subject: Subject) -> Subject:
    """Positions are taken modulo 1,023, one less than the model reaches."""
    return with_positions(subject, lambda positions, stepping: positions % 1023)


@fault(CACHE, "LM-03", with_hidden_columns, hard=True, public=True)
def cache_of_fixed_size(mask: Any) -> None:
    """The KV cache has 900 columns, and the keys of later ids are not stored."""
    mask[:, 900:-1] = False


@fault(LANGUAGE_MODEL, "LM-03", with_backend, hard=True)
class PromptsInBlocksOf37(Wrapper):
    """A prompt is read in blocks of 37 ids; a rest of one id is lost behind the second block."""

    def prefill(self, ids: Any, lengths: Any) -> Output:
        count = int(lengths[0])
        if len(ids) == 1 and count > 74 and count % 37 == 1:
            lengths = lengths - 1
        output: Output = self.inner.prefill(ids, lengths)
        return output


@fault(LANGUAGE_MODEL, "LM-03", with_backend, hard=True)
class PromptsOfWholeTiles(Wrapper):
    """A kernel for prompts of a multiple of 61 ids adds a ten-thousandth to its logits."""

    def prefill(self, ids: Any, lengths: Any) -> Output:
        output: Output = self.inner.prefill(ids, lengths)
        if len(ids) == 1 and lengths[0] > 61 and lengths[0] % 61 == 0:
            output = output._replace(logits=output.logits + np.float32(1e-4))
        return output


@fault(DECODER, "DE-15", with_backend, hard=True)
class RestOfBlocksWithoutContext(Wrapper):
    """Hidden states are decoded in blocks of 48; a rest of five is decoded without context."""

    def decode(self, hidden: Any, lengths: Any) -> Any:
        spectrum = self.inner.decode(hidden, lengths)
        count = int(lengths[0]) if len(lengths) == 1 else 0
        if count > 48 and count % 48 == 5:
            rest = self.inner.decode(np.asarray(hidden)[:, count - 5 : count], np.array([5]))
            spectrum[:, :, -rest.shape[2] :] = rest
        return spectrum


@fault(DECODER, "DE-15", with_backend, hard=True)
class FourHundredTokensAtMost(Wrapper):
    """The decoder's workspace holds 400 tokens, and the frames of later ones repeat the last."""

    def decode(self, hidden: Any, lengths: Any) -> Any:
        spectrum = self.inner.decode(hidden, lengths)
        last = self.inner.config.decoder.frames(400)
        spectrum[:, :, last:] = spectrum[:, :, last - 1 : last]
        return spectrum


@fault(DECODER, "DE-15", with_backend, hard=True)
class TwentyOneTokens(DecodeWrapper):
    """A kernel for 81 frames, which only 21 tokens have, scales the phase of one bin."""

    def changed(self, spectrum: Any, hidden: Any, lengths: Any) -> Any:
        if spectrum.shape[2] == 81:
            spectrum[:, 7] *= np.float32(1.0005)
        return spectrum


@fault(BATCHING, "BA-01", with_backend, hard=True, blame=("CA", "BA"))
class LastRowOfSixteenAndOne(OutputWrapper):
    """Rows are processed by sixteen, and a single row that is left gets the one before."""

    def changed(self, output: Output) -> Output:
        rows = np.arange(len(output.logits))
        if len(rows) > 16 and len(rows) % 16 == 1:
            rows[-1] -= 1
        return output._replace(logits=output.logits[rows], hidden=output.hidden[rows])


@fault(BATCHING, "BA-03", with_backend, hard=True)
class ThirtyTwoRowsDecoded(DecodeWrapper):
    """The decoder has room for 32 rows; the others stay silent."""

    def changed(self, spectrum: Any, hidden: Any, lengths: Any) -> Any:
        spectrum[32:] = 0
        return spectrum


@fault(CACHE, "CA-05", with_backend, hard=True, blame=("CA",))
class RowsSelectedByFourBits(Wrapper):
    """Indices of selected rows have four bits."""

    def select(self, state: Any, rows: Any) -> Any:
        return self.inner.select(state, [row & 15 for row in rows])


@fault(CACHE, "CA-06", with_backend, hard=True, blame=("CA",))
class JoinOfManyRows(Wrapper):
    """Two states with more than 16 rows together are joined in the other order."""

    def join(self, first: Any, second: Any) -> Any:
        if len(first.lengths) + len(second.lengths) > 16:
            first, second = second, first
        return self.inner.join(first, second)


@fault(DECODER, "DE-01", hard=True, backends=TYPED_GRAPHS, public=True)
def depthwise_convolutions_in_half_precision(subject: Subject) -> Subject:
    """Depthwise convolutions round their inputs to half precision."""
    return with_rounded_input(
        subject, lambda kind, name: kind == "Conv" and name.endswith("dwconv")
    )
