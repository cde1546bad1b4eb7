"""The first node of a network whose error exceeds the noise floor, on the right inputs.

Every segment between two cuts is fed with golden inputs, so that an error cannot come from
before the segment. The golden values are those of `conformance.oracle.network_steps`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from conformance.diagnosis.node_errors import RATIO, Found, Row
from conformance.oracle.network_steps import Step, Value

Array = npt.NDArray[Any]
NAMED = 0.1  # of its error is left where a wrong convention explains it


class Taps(Protocol):
    """A network whose intermediate values can be read and given."""

    names: frozenset[str]

    def run(
        self, inputs: Mapping[str, Array], given: Mapping[str, Array], wanted: Sequence[str]
    ) -> dict[str, Array]: ...


@dataclass(frozen=True)
class Sample:
    """Inputs of a network, and the golden values of its steps: rows from `first` on."""

    name: str
    inputs: dict[str, Array]
    values: dict[str, Value]
    first: int = 0

    def rows(self, step: str) -> Array:
        return self.values[step].expected[self.first :]


class Search:
    """Compares a network's nodes with the steps of the same names."""

    def __init__(
        self,
        network: str,
        taps: Taps,
        steps: Sequence[Step],
        samples: Sequence[Sample],
        weights: Mapping[str, Array],
    ) -> None:
        self.taps, self.samples = taps, samples
        self.steps = {step.name: step for step in steps}
        self.weights = {name: np.asarray(array, np.float32) for name, array in weights.items()}
        self.found = Found(network)
        self.actual: dict[tuple[int, str], Array] = {}  # of the last run, by sample and step
        self.tensors: dict[str, str] = {}  # step -> tensor
        self.misfit = ""  # the first step whose tensor has another size
        self.transposed: set[str] = set()  # steps whose tensors have the first two axes exchanged
        for step in steps:
            # What a convolution itself returns has its channels first, as in PyTorch.
            names = step.name, *step.aliases
            candidates = names[::-1] if step.kind == "convolution" else names
            name = next((name for name in candidates if name in taps.names), None)
            if name is not None:
                self.tensors[step.name] = name
        self.shapes: list[dict[str, tuple[int, ...]]] = []
        self._match()
        self.order = [step for step in steps if step.name in self.tensors]

    def _match(self) -> None:
        """Keep the tensors whose sizes are those of their steps in every sample."""
        wanted = list(dict.fromkeys(self.tensors.values()))
        self._whole = [self.taps.run(sample.inputs, {}, wanted) for sample in self.samples]
        for whole in self._whole:
            self.shapes.append({name: array.shape for name, array in whole.items()})
        for step, tensor in list(self.tensors.items()):
            sizes = [
                (int(np.prod(shapes.get(tensor, (-1,)))), sample.rows(step).size)
                for shapes, sample in zip(self.shapes, self.samples, strict=True)
            ]
            if any(own != golden for own, golden in sizes):
                del self.tensors[step]
                if all(own >= 0 for own, _ in sizes) and not self.misfit:
                    self.misfit = step
                    self.found.notes.append(
                        f"{step} has other sizes than its definition: "
                        + ", ".join(f"{own:,} instead of {golden:,}" for own, golden in sizes)
                    )
            elif self._is_transposed(step, tensor, self._whole):
                self.transposed.add(step)

    def _is_transposed(self, step: str, tensor: str, whole: Sequence[Mapping[str, Array]]) -> bool:
        """Whether a tensor's axes are those of a step with the first two exchanged."""
        plain = transposed = 0.0
        for sample, values in zip(self.samples, whole, strict=True):
            rows, array = sample.rows(step), np.asarray(values[tensor], np.float64)
            shape = tuple(size for size in array.shape if size != 1)
            exchanged = np.swapaxes(rows, 0, 1) if rows.ndim > 1 else rows
            if tuple(size for size in exchanged.shape if size != 1) != shape:
                return False
            plain += float(np.sum((array.reshape(rows.shape) - rows) ** 2))
            transposed += float(np.sum((array.reshape(exchanged.shape) - exchanged) ** 2))
        return transposed < plain

    def linear(self) -> Found:
        """Every node, each on golden inputs, in one run of each sample."""
        if not self.order:
            self._name(self.misfit)
            return self.found
        self._measure(self.order, self.order)
        wrong = [row for row in self.found.rows if row.ratio > RATIO]
        if wrong:
            self._name(wrong[0].node)
        return self._with_misfit()

    def observed(self) -> Found:
        """Every node of one run of the whole network: of a port whose values cannot be given."""
        if self.order:
            rows = self._measure([], self.order)
            self._name(next((row.node for row in rows if row.ratio > RATIO), ""))
        return self._with_misfit()

    def _with_misfit(self) -> Found:
        """A node of another size is the first wrong one if those before it are right."""
        names = list(self.steps)
        first = self.found.first
        if self.misfit and (not first or names.index(self.misfit) < names.index(first)):
            self._name(self.misfit)
        return self.found

    def binary(self) -> Found:
        """Few runs with few cuts, which leave most of the network as the runtime fuses it."""
        low, high = 0, len(self.order)  # order[:low] is right
        if not high or not self._fails(low, high):
            return self._with_misfit()
        while high - low > 1:
            middle = (low + high) // 2
            if self._fails(low, middle):
                high = middle
            else:
                low = middle
        self._name(self.order[low].name)
        return self._with_misfit()

    def _fails(self, low: int, high: int) -> bool:
        """Whether nodes low to high - 1, fed with golden inputs, give wrong outputs."""
        inside = {step.name for step in self.order[low:high]}
        used = {name for step in self.order[high:] for name in self._ancestors(step)}
        ends = [s for s in self.order[low:high] if s.name in used or s.kind == "output"]
        ends = ends or [self.order[high - 1]]
        if self.order[high - 1] not in ends:
            ends.append(self.order[high - 1])
        given = [step for step in self.order[:low] if step.name not in inside]
        rows = self._measure(given, ends)
        return any(row.ratio > RATIO for row in rows)

    def _ancestors(self, step: Step) -> set[str]:
        """The matched steps that a step reads, also through steps that are not matched."""
        found: set[str] = set()
        waiting = list(step.inputs)
        while waiting:
            name = waiting.pop()
            if name in self.tensors:
                found.add(name)
            elif name in self.steps:
                waiting += self.steps[name].inputs
        return found

    def floors(self, index: int, given: Sequence[Step]) -> dict[str, float]:
        """The float32 error of each step from golden values of the given ones."""
        sample, known = self.samples[index], {step.name for step in given}
        values = {name.removeprefix("golden "): array for name, array in sample.inputs.items()
                  if name.startswith("golden ")}  # fmt: skip
        found = {}
        for name, step in self.steps.items():
            golden = sample.values[name]
            arguments = [values[each] for each in step.inputs]
            made = step.compute(*arguments, *(self.weights[each] for each in step.weights))
            error = np.asarray(made, np.float64) - golden.expected
            found[name] = max(_rms(error[sample.first :]), golden.floor)
            values[name] = golden.expected.astype(np.float32) if name in known else made
        return found

    def _measure(self, given: Sequence[Step], wanted: Sequence[Step]) -> list[Row]:
        """The errors of wanted nodes where the given ones are golden, of the worst samples."""
        self.actual = {}
        runs = [self._rows(index, given, wanted) for index in range(len(self.samples))]
        rows = [max(own, key=lambda row: row.ratio) for own in zip(*runs, strict=True)]
        kept = {row.node: row for row in self.found.rows}
        for row in rows:
            kept[row.node] = row
        order = {step.name: index for index, step in enumerate(self.order)}
        self.found.rows = sorted(kept.values(), key=lambda row: order[row.node])
        return rows

    def _rows(self, index: int, given: Sequence[Step], wanted: Sequence[Step]) -> list[Row]:
        """The errors of wanted nodes in a run of one sample."""
        sample, found = self.samples[index], []
        golden = {self.tensors[step.name]: self.as_given(index, step.name) for step in given}
        made = self.taps.run(sample.inputs, golden, [self.tensors[step.name] for step in wanted])
        floors = self.floors(index, given)
        self.found.runs += 1
        for step in wanted:
            expected = sample.rows(step.name)
            actual = self._as_step(step.name, made[self.tensors[step.name]], expected)
            self.actual[index, step.name] = actual
            error, size = _rms(actual - expected), _rms(expected)
            error = error if np.isfinite(error) else np.inf
            relative = error / size if size else 0.0
            found.append(Row(step.name, error, floors[step.name], sample.name, relative))
        return found

    def as_given(self, index: int, step: str) -> Array:
        """The golden value of a step with the axes of its tensor."""
        rows, shape = self.samples[index].rows(step), self.shapes[index][self.tensors[step]]
        rows = np.swapaxes(rows, 0, 1) if step in self.transposed else rows
        return np.ascontiguousarray(rows, np.float32).reshape(shape)

    def _as_step(self, step: str, values: Array, rows: Array) -> Array:
        found = np.asarray(values, np.float64)
        if step in self.transposed:
            return np.swapaxes(found.reshape(np.swapaxes(rows, 0, 1).shape), 0, 1)
        return found.reshape(rows.shape)

    def _name(self, node: str) -> None:
        self.found.first = node

    def trace(self) -> list[Row]:
        """The errors of all nodes in one run of the whole network, where they add up.

        The run is that of the sample whose last node has the largest relative error.
        """
        if not self.order:
            return []
        runs = [self._rows(index, [], self.order) for index in range(len(self.samples))]
        relative: dict[str, float] = {}
        for row in max(runs, key=lambda rows: rows[-1].relative):
            before = [relative[name] for name in self._ancestors(self.steps[row.node])]
            largest = max(before, default=0.0)
            relative[row.node] = row.relative
            grown = row.relative / largest if largest else 0.0
            self.found.trace.append(replace(row, growth=grown))
        return self.found.trace

    def compare_outputs(self) -> None:
        """Whether the final outputs change where other outputs are added.

        Added outputs can prevent a runtime from fusing nodes.
        """
        last = [step for step in self.order if step.kind == "output"] or self.order[-1:]
        if not last:
            return
        tensors = [self.tensors[step.name] for step in last]
        for index, sample in enumerate(self.samples):
            alone = self.taps.run(sample.inputs, {}, tensors)
            added = self.taps.run(sample.inputs, {}, [self.tensors[s.name] for s in self.order])
            floors = self.floors(index, [])
            for step, tensor in zip(last, tensors, strict=True):
                change = _rms(np.asarray(alone[tensor], np.float64) - added[tensor])
                self.found.changed = max(self.found.changed, change / floors[step.name])
        if self.found.changed > RATIO:
            self.found.notes.append(
                f"the final outputs change by {self.found.changed:.3g} noise floors if other "
                "outputs are added: the runtime fuses nodes, and a fused kernel may be wrong"
            )

    def explain(self, candidates: Callable[[Step], Sequence[tuple[str, Any]]]) -> None:
        """Name the wrong convention by which the first wrong node computes its output."""
        step = self.steps.get(self.found.first)
        if step is None or step.name not in self.tensors:
            return
        # The steps that the node computes from golden inputs: itself, and what is not matched.
        given = [each for each in self.order if each.name != step.name]
        inner = [step, *(self.steps[n] for n in self._unmatched(step))]
        self._measure(given, [step])
        for one in inner:
            for name, compute in candidates(one):
                if self._explains(step, one, compute):
                    self.found.convention = name
                    return

    def _unmatched(self, step: Step) -> list[str]:
        """The steps without tensors of their own that a node computes too."""
        found = []
        waiting = list(step.inputs)
        while waiting:
            name = waiting.pop()
            if name in self.steps and name not in self.tensors:
                found.append(name)
                waiting += self.steps[name].inputs
        return found

    def _explains(self, step: Step, changed: Step, compute: Any) -> bool:
        left, whole = 0.0, 0.0
        for index, sample in enumerate(self.samples):
            actual = self.actual[index, step.name]
            try:
                wrong = self._with(sample, step, changed, compute)[sample.first :]
            except (ValueError, IndexError):
                return False
            if wrong.shape != actual.shape:
                return False
            with np.errstate(all="ignore"):
                left += float(np.sum((actual - wrong) ** 2))
                whole += float(np.sum((actual - sample.rows(step.name)) ** 2))
        return bool(whole and np.isfinite(left) and (left / whole) ** 0.5 < NAMED)

    def _with(self, sample: Sample, step: Step, changed: Step, compute: Any) -> Array:
        """A node's output on golden inputs where one of its steps is computed otherwise."""

        def value(name: str) -> Array:
            golden = f"golden {name}"
            if golden in sample.inputs:
                array = sample.inputs[golden]
                return array.astype(np.float64) if array.dtype.kind == "f" else array
            if name == changed.name or name == step.name:
                return made(self.steps[name])
            if name not in self.tensors:
                return made(self.steps[name])
            return sample.values[name].expected.astype(np.float32).astype(np.float64)

        def made(own: Step) -> Array:
            weights = [self.weights[each].astype(np.float64) for each in own.weights]
            run = compute if own.name == changed.name else own.compute
            return np.asarray(run(*(value(each) for each in own.inputs), *weights))

        return made(step)


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))) if values.size else 0.0
