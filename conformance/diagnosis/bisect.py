"""The first wrong stage of a backend and, in its networks, the first wrong node."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.diagnosis.bisection import Search, Taps
from conformance.diagnosis.check import replaced
from conformance.diagnosis.graph_runs import GraphRun, cut, load_file, write_part
from conformance.diagnosis.networks import (
    DECODER,
    LANGUAGE_MODEL,
    PARTS,
    ModuleTaps,
    PortTaps,
    bisect_network,
    graph_taps,
)
from conformance.diagnosis.probes import Probed
from conformance.diagnosis.replacement import TEXTS, Replacements
from conformance.golden.packs import fixture_of
from conformance.oracle.network_steps import decoder_steps, language_model_steps
from conformance.subject import Subject
from soprano.checkpoint.folder import ModelFolder
from soprano.stages import with_own_stages

Array = npt.NDArray[Any]


@dataclass
class Bisection:
    """Stage replacement, and the search in each network."""

    stages: Replacements | None
    searches: list[Search] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> bool:
        named = self.stages.named if self.stages else []
        return bool(named) or any(search.found.first for search in self.searches)

    def first_line(self) -> str:
        for search in self.searches:
            if search.found.first:
                return search.found.lines()[0]
        named = self.stages.named if self.stages else []
        if named:
            return f"{named[0]} is the first wrong stage; no node of a network is wrong"
        if not self.searches and self.stages is None:
            return "nothing was compared"
        return "every stage and every compared node is right"

    def lines(self) -> list[str]:
        found = [self.first_line(), "", *self.notes]
        if self.stages:
            found += [*self.stages.lines(), ""]
        for search in self.searches:
            found += [*search.found.lines(), ""]
        return found

    def document(self) -> dict[str, Any]:
        return {
            "first": self.first_line(),
            "wrong": self.wrong,
            "stages": self.stages.document() if self.stages else None,
            "networks": [search.found.document() for search in self.searches],
            "notes": self.notes,
        }


def bisect(
    subject: Subject,
    name: str,
    model: Path,
    *,
    text: str | None = None,
    reference: Path | None = None,
    linear: bool = False,
    trace: bool = False,
    f32: bool = True,
    output: Path | None = None,
) -> Bisection:
    """Search for the first wrong stage and node of a backend on a model.

    Args:
        text: what is spoken, in place of sentences of the suite.
        linear: compare every node, not only those that a binary search needs.
        trace: compare every node also in one run of the whole network.
        f32: whether OpenVINO is told to compute in float32.
        output: a folder for the smallest failing part of an ONNX graph.
    """
    probed = Probed(subject, name, model, reference)
    try:
        result = Bisection(_stages(subject, name, model, reference, text))
        folder = ModelFolder.open(model)
        source = folder if folder.has_weights else fixture_of(folder)
        if reference:
            source = ModelFolder.open(reference)
        if source is None:
            raise LookupError(f"the weights of {model} are not at hand: name them with --reference")
        given = _inputs(probed, text)
        for part in PARTS:
            try:
                taps = _taps(probed, folder, part, f32=f32)
            except LookupError as error:
                result.notes.append(str(error))
                continue
            search = bisect_network(
                part, taps, folder, source, probed.vectors, linear=linear, given=given.get(part)
            )
            search.compare_outputs()
            if trace:
                search.trace()
            result.searches.append(search)
            if not f32 and (granted := getattr(taps, "granted", "")):
                result.notes.append(f"{name} chooses {granted} for {part} on this processor")
            if output and search.found.first and isinstance(taps, GraphRun):
                _write(search, taps, output)
                result.notes.append(f"{output} holds the smallest failing part: python run.py")
        return result
    finally:
        probed.backend.close()


def _stages(
    subject: Subject, name: str, model: Path, reference: Path | None, text: str | None
) -> Replacements | None:
    try:
        return replaced(subject, name, model, reference, (text,) if text else TEXTS)
    except LookupError:
        return None


def _inputs(probed: Probed, text: str | None) -> dict[str, Array]:
    """What a text gives each network."""
    if not text:
        return {}
    stages = with_own_stages(probed.stages, probed.backend, probed.model)
    sentence = stages.split(stages.normalize(text))[0]
    ids = np.array(stages.tokenize(sentence))
    hidden = probed.vectors.pack.networks().language_model(ids)[1]
    return {LANGUAGE_MODEL: ids, DECODER: hidden.astype(np.float32)}


def _taps(probed: Probed, folder: ModelFolder, part: str, *, f32: bool) -> Taps:
    """The intermediate values of a network, wherever the backend's come from.

    Raises:
        LookupError: there are none.
    """
    name, able = probed.name, probed.capabilities
    what = "language model" if part == LANGUAGE_MODEL else "decoder"
    if not (able.language_model if part == LANGUAGE_MODEL else able.decoder):
        raise LookupError(f"{name} offers no {what}")
    if hasattr(probed.backend, "tap"):
        config = folder.config
        lm = part == LANGUAGE_MODEL
        steps = language_model_steps(config.language_model) if lm else decoder_steps(config.decoder)
        return PortTaps(probed.backend.tap, part, steps)
    if name.startswith("onnx:"):
        return GraphRun(load_file(Path(name.removeprefix("onnx:"))), "onnxruntime")
    if name in ("onnx_cpu", "openvino_cpu") or "onnx_standard" in name:
        return graph_taps(folder, part, name, f32=f32)
    if name.startswith("pytorch"):
        from soprano.reference.load import load_decoder, load_language_model

        load = load_language_model if part == LANGUAGE_MODEL else load_decoder
        return ModuleTaps(load(folder), part, folder.config)
    raise LookupError(f"{name} gives no values inside its {what}: it has no method tap")


def _write(search: Search, taps: GraphRun, output: Path) -> None:
    """The part of a graph that makes the first wrong node from golden inputs."""
    step = search.steps[search.found.first]
    tensor = search.tensors[step.name]
    given = [each for each in search.order if each.name != step.name]
    worst = next(row.sample for row in search.found.rows if row.node == step.name)
    index = next(i for i, sample in enumerate(search.samples) if sample.name == worst)
    sample = search.samples[index]
    golden = {search.tensors[each.name]: search.as_given(index, each.name) for each in given}
    part = cut(taps.model, {name: array.ndim for name, array in golden.items()}, [tensor])
    values = {**sample.inputs, **{f"{name}.given": array for name, array in golden.items()}}
    inputs = {value.name: values[value.name] for value in part.graph.input}
    write_part(output, part, inputs, {tensor: search.as_given(index, step.name)})
