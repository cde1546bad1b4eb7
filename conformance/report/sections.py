"""Sections of the HTML report beside the verdicts: errors, audio, speed, claims, configurations."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from html import escape
from io import BytesIO
from statistics import median
from typing import Any

import numpy as np

from conformance.judging.excerpts import decode
from conformance.judging.records import backend_of
from conformance.report import plots
from conformance.report.documents import Inputs, Json, Run
from conformance.report.markup import Row, element, style_of, table, verdict
from soprano.audio_files import WavWriter

_EXAMPLES = 6  # utterances that are embedded
_LOUD = 0.9  # peak of a difference that is made audible
_PANELS = 8  # QQ plots
# Beginnings of the names of quantities, in the order of the pipeline.
_DEPTH = (
    "prefill", "prefix", "vocabulary", "step", "long", "greedy hidden", "sampled hidden",
    "relative", "spectrum", "samples", "greedy samples", "sampled samples",
)  # fmt: skip


def _title(run: Run, subject: str, runs: Sequence[Run]) -> str:
    """A subject, with the name of its run if several runs have it."""
    alike = sum(subject in other.document["results"] for other in runs)
    return f"{subject} ({run.name})" if alike > 1 else subject


def _figure(svg: str, caption: str) -> str:
    return element("figure", svg + element("figcaption", caption))


def errors(inputs: Inputs) -> str:
    """Noise floors and margins as a table; figures of the errors."""
    runs = inputs.runs
    rows = [
        Row([escape(quantity), escape(_backend(run, backend, runs)), *_margin(margin)], {},
            {i + 2: margin[key] for i, key in enumerate(("floor", "floors", "row", "worst"))})
        for run in runs
        for backend, own in run.document["margins"].items()
        for quantity, margin in sorted(own.items(), key=lambda each: _rank(each[0]))
    ]  # fmt: skip
    heads = ["quantity", "backend", "noise floor", "error in floors", "worst row of its limit",
             "worst element of its limit"]  # fmt: skip
    shown = table("margins", heads, rows, numbers=range(2, 6), tall=True) if rows else ""
    figures = [*_depth(inputs), *_quantiles(runs)]
    return (element("div", "".join(figures), class_="figures") if figures else "") + shown


def _backend(run: Run, backend: str, runs: Sequence[Run]) -> str:
    alike = sum(backend in other.document["margins"] for other in runs)
    return f"{backend} ({run.name})" if alike > 1 else backend


def _margin(margin: Json) -> Iterator[str]:
    yield f"{margin['floor']:.1e}"
    yield f"{margin['floors']:.2f}" if margin["floors"] < 1000 else f"{margin['floors']:.1e}"
    for key in ("row", "worst"):
        style = "verdict fail" if margin[key] > 1 else None
        text = f"{margin[key]:.0%}" if margin[key] < 100 else f"{margin[key]:.3g} times"
        yield element("span", text, class_=style)


def _depth(inputs: Inputs) -> Iterator[str]:
    series = {
        _backend(run, backend, inputs.runs): {q: own[q]["floors"] for q in sorted(own, key=_rank)}
        for run in inputs.runs
        for backend, own in run.document["margins"].items()
    }
    if any(series.values()):
        caption = (
            "Error by depth: the largest rms error of each quantity in noise floors, from the "
            "language model to the samples. 1 is the float32 reference."
        )
        yield _figure(plots.error_by_depth(series, "depth", "error in noise floors"), caption)
    networks = [network for found in inputs.bisections for network in found["networks"]]
    for number, network in enumerate(networks):
        yield from _nodes(network, f"nodes{number}")


def _nodes(network: Json, name: str) -> Iterator[str]:
    """Errors along the nodes of a network that a bisection has compared."""
    titles = {"trace": "one run of the whole", "rows": "on golden inputs"}
    series = {
        title: {row["node"]: row["ratio"] for row in network[key] if np.isfinite(row["ratio"])}
        for key, title in titles.items()
        if network[key]
    }
    if any(series.values()):
        first = f"The first wrong node is {network['first']}." if network["first"] else ""
        svg = plots.error_by_depth(series, name, "error in noise floors")
        caption = f"Error by depth in the network {network['network']}. {first}"
        yield _figure(svg, escape(caption))
    yield from _growth(network, f"{name}growth")


def _growth(network: Json, name: str) -> Iterator[str]:
    """Relative errors in one run of the whole network: where one starts, and what multiplies it."""
    rows = {r["node"]: r for r in network["trace"] if 0 < r.get("relative", 0) < np.inf}
    if not rows:
        return
    series = {
        "one run of the whole": {node: row["relative"] for node, row in rows.items()},
        "noise floor": {node: row["relative"] / row["ratio"] for node, row in rows.items()},
    }
    text = f"Relative error in one run of the whole {network['network']}. "
    if start := network.get("start"):
        amplifiers = [rows[node] for node in network.get("amplifiers", ()) if node in rows]
        grown = [f"{row['node']} ({row['growth']:.1f} times)" for row in amplifiers]
        text += f"It starts at {start}; multiplied most by {', '.join(grown) or 'no node'}."
    yield _figure(plots.error_by_depth(series, name, "relative error", floor=False), escape(text))


def _rank(quantity: str) -> tuple[int, list[int]]:
    place = next((i for i, name in enumerate(_DEPTH) if quantity.startswith(name)), len(_DEPTH))
    return place, [int(number) for number in re.findall(r"\d+", quantity)]


def _quantiles(runs: Sequence[Run]) -> Iterator[str]:
    """A QQ plot for each subject; those of the largest errors, if there are many."""
    found = [
        (_title(run, subject, runs), own)
        for run in runs
        for subject, own in run.document["errors"].items()
        if own
    ]
    found.sort(key=lambda each: -max(e["floors"] for e in each[1].values()))
    for number, (title, own) in enumerate(found[:_PANELS]):
        # The quantities with the largest errors: more lines than colours cannot be told apart.
        worst = sorted(own, key=lambda quantity: -own[quantity]["floors"])[: plots.SERIES - 2]
        svg = plots.error_quantiles({q: own[q]["quantiles"] for q in worst}, f"qq{number}")
        caption = (
            f"QQ plot, {escape(title)}: errors in noise floors against a normal distribution. "
            "A steeper line is a larger error; bent ends are outliers."
        )
        yield _figure(svg, caption)


def audio(runs: Sequence[Run]) -> str:
    """Waveforms, spectrograms and players: of failures, then one model of each backend."""
    found = [
        (_title(run, subject, runs), subject, excerpt)
        for run in runs
        for subject, excerpt in run.document["audio"].items()
    ]
    if not found:
        return ""
    documents = [run.document for run in runs]
    subjects = {name for each in documents for name in (*each["results"], *each["backends"])}
    # Failures first, then the longest; of each backend one, before it has a second.
    found.sort(key=lambda each: (not each[2]["failed"], -_seconds(each[2])))
    seen: dict[str, int] = {}
    ranked = []
    for title, subject, excerpt in found:
        backend = title.replace(subject, backend_of(subject, subjects))
        seen[backend] = seen.get(backend, 0) + 1
        ranked.append((seen[backend] if not excerpt["failed"] else 0, title, excerpt))
    ranked.sort(key=lambda each: each[0])
    shown = ranked[:_EXAMPLES]
    rest = (
        f" {len(found) - len(shown)} more are in the JSON documents." if ranked[_EXAMPLES:] else ""
    )
    text = (
        "The same hidden states, decoded by the oracle and by the backend. "
        f"The player of the difference is amplified.{rest}"
    )
    examples = (_example(number, *each[1:]) for number, each in enumerate(shown))
    return element("p", text, class_="muted") + "".join(examples)


def _seconds(excerpt: Json) -> float:
    return len(decode(excerpt["scale"], excerpt["expected"])) / float(excerpt["sample_rate"])


def _example(number: int, title: str, excerpt: Json) -> str:
    expected = decode(excerpt["scale"], excerpt["expected"])
    error = decode(excerpt["error_scale"], excerpt["error"])
    place = expected, expected + error, excerpt["sample_rate"], excerpt["start"]
    wave = plots.waveforms(*place, f"wave{number}") + '<div class="cursor"></div>'
    figures = element("div", wave, class_="wave")
    peak = float(np.abs(error).max())
    gain = (
        f"difference, amplified by {20 * np.log10(_LOUD / peak):.0f} dB" if peak else "difference"
    )
    loud = error * (_LOUD / peak) if peak else error
    rate = excerpt["sample_rate"]
    quieter = 1 / max(np.abs(place[0]).max(), np.abs(place[1]).max(), 1)  # only if it would clip
    samples = {"oracle": place[0] * quieter, "backend": place[1] * quieter, gain: loud}
    players = "".join(
        element("span", escape(name)) + _player(name, values, rate)
        for name, values in samples.items()
    )
    switch = element("button", "Switch between oracle and backend", type="button", class_="switch")
    left = element("div", figures + element("div", players, class_="players") + switch)
    right = element("div", plots.spectrograms(*place, f"spectrogram{number}"))
    failed = verdict("fail") if excerpt["failed"] else ""
    head = element("h3", f"{escape(title)}, {escape(excerpt['quantity'])} {failed}")
    body = head + element("div", left + right, class_="figures")
    return element("div", body, class_="example", data_left=plots.LEFT, data_right=plots.RIGHT)


def _player(name: str, samples: Any, rate: int) -> str:
    file = BytesIO()
    WavWriter(file, rate, len(samples)).write(samples)
    source = f"data:audio/wav;base64,{base64.b64encode(file.getvalue()).decode()}"
    return element("audio", controls="", preload="metadata", src=source, aria_label=name)


def speed(saved: Sequence[Json]) -> str:
    """Real-time factors of saved benchmarks, with the band of equal code measured again."""
    rows = list(_factors(saved))
    if not rows:
        return ""
    caption = (
        "Bars: the median round. Thin lines: the A/A band, from the first to the third quartile "
        "of all rounds of the same commit; a difference inside it is noise."
    )
    cells = [
        Row([escape(r["title"]), escape(r["commit"]), f"{r['rtf']:.4g}",
             f"{r['band'][0]:.4g} to {r['band'][1]:.4g}", str(r["rounds"])], {}, {2: r["rtf"]})
        for r in rows
    ]  # fmt: skip
    heads = ["part, backend and model", "commit", "RTF", "A/A band", "rounds"]
    shown = table("speeds", heads, cells, numbers=(2, 3, 4))
    figure = element("div", _figure(plots.factors(rows, "rtf"), caption), class_="figures")
    return figure + shown


def _factors(saved: Sequence[Json]) -> Iterator[Json]:
    """One row for each benchmark and commit; several runs of a commit are joined."""
    groups: dict[tuple[str, str], list[Json]] = {}
    for run in saved:
        commit = str(run.get("commit_info", {}).get("id", ""))[:10]
        for bench in run["benchmarks"]:
            if {"rtf", "audio_seconds"} <= {*bench.get("extra_info", {})}:
                groups.setdefault((bench["name"], commit), []).append(bench)
    backends = list(
        dict.fromkeys(own[0]["extra_info"].get("backend", "") for own in groups.values())
    )
    several = len({commit for _, commit in groups}) > 1
    for (name, commit), own in sorted(groups.items()):
        stats = [bench["stats"] for bench in own]
        seconds = own[0]["extra_info"]["audio_seconds"]
        backend = own[0]["extra_info"].get("backend", "")
        title = f"{own[0].get('group') or name} on {backend}" if backend else name
        yield {
            "title": f"{title} {commit}" if several else title,
            "commit": commit,
            "series": backends.index(backend),
            "rtf": median(each["median"] for each in stats) / seconds,
            "band": (min(s["q1"] for s in stats) / seconds, max(s["q3"] for s in stats) / seconds),
            "rounds": sum(each["rounds"] for each in stats),
        }


def deviations(runs: Sequence[Run]) -> str:
    """The claims of all runs, each once."""
    claims = {str(claim): claim for run in runs for claim in run.document["deviations"]}
    rows = [
        Row([escape(c["requirement"]), escape(c["subject"]), escape(c["reason"]),
             escape(c["owner"]), escape(str(c["bound"])), escape(c["expires"]), _state(c)])
        for c in claims.values()
    ]  # fmt: skip
    heads = ["requirement", "subject", "reason", "owner", "bound", "expires", "state"]
    return table("claims", heads, rows, filtered=False) if rows else ""


def _state(claim: Json) -> str:
    names = {True: "expired", False: "confirmed" if claim["met"] else "not confirmed"}
    bad = claim["expired"] or not claim["met"]
    return element("span", names[claim["expired"]], class_=f"verdict {'fail' if bad else 'pass'}")


def configurations(runs: Sequence[Run]) -> str:
    """What each runtime states of itself; what differs between subjects is marked."""
    subjects = {
        _title(run, subject, runs): fields
        for run in runs
        for subject, fields in run.document["backends"].items()
    }
    names = list(dict.fromkeys(name for fields in subjects.values() for name in fields))
    rows = [
        Row([escape(name), *(_field(own.get(name), name, subjects) for own in subjects.values())])
        for name in names
    ]
    return table("fields", ["field", *subjects], rows, filtered=False) if rows else ""


def _field(found: Json | None, name: str, subjects: Json) -> str:
    if not found:
        return ""
    values = {own[name]["value"] for own in subjects.values() if name in own}
    text = escape(found["value"])
    shown = element("mark", text) if len(values) > 1 else text
    return f'{shown} <span class="muted">{escape(found["how"])}</span>'


def kill_matrix(matrices: Sequence[Json]) -> str:
    """The verdicts on planted faults."""
    results = [result for matrix in matrices for result in matrix["results"]]
    if not results:
        return ""
    rows = [
        Row([escape(r["id"]), escape(r["backend"]), verdict(r["verdict"]), escape(r["blamed"]),
             escape(" ".join(r["requirements"])), escape(r["story"])],
            {"verdict": style_of(r["verdict"])})
        for r in results
    ]  # fmt: skip
    seen = list(dict.fromkeys(r["verdict"] for r in results))
    totals = ", ".join(f"{sum(r['verdict'] == name for r in results)} {name}" for name in seen)
    heads = ["fault", "backend", "verdict", "blamed", "failing requirements", "what is wrong"]
    shown = table("faults", heads, rows, choices={"verdict": seen}, tall=True)
    return element("p", f"{len(results)} planted faults and harmless variations: {totals}.") + shown
