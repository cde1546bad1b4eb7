"""Parts of an HTML page: elements, tables that can be sorted and filtered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any


def element(name: str, content: str = "", /, **attributes: Any) -> str:
    """An element around HTML; `class_` is the attribute `class`, and `_` stands for `-`."""
    pairs = (
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{''.join(pairs)}>{content}</{name}>"


def verdict(name: str) -> str:
    return element("span", escape(name), class_=f"verdict {style_of(name)}")


def style_of(name: str) -> str:
    """The class of a verdict."""
    return name.replace(" ", "-")


@dataclass(frozen=True)
class Row:
    """Cells as HTML, the first a head, and the values by which choices filter them."""

    cells: Sequence[str]
    choices: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[int, Any] = field(default_factory=dict)  # what a column is sorted by


def table(
    name: str,
    heads: Sequence[str],
    rows: Sequence[Row],
    *,
    numbers: Iterable[int] = (),
    choices: Mapping[str, Sequence[str]] | None = None,
    filtered: bool = True,
    tall: bool = False,
) -> str:
    """A table that can be sorted, with a filter of words and one for each of `choices`."""
    right = set(numbers)
    head = "".join(
        element("th", element("button", escape(title), type="button"), aria_sort="none",
                scope="col", class_="number" if index in right else None)
        for index, title in enumerate(heads)
    )  # fmt: skip
    body = "".join(_row(row, right) for row in rows)
    found = element("table", f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>", id=name)
    scroll = element("div", found, class_="scroll tall" if tall else "scroll", tabindex=0)
    return (_controls(name, choices or {}) if filtered else "") + scroll


def _row(row: Row, right: set[int]) -> str:
    cells = (
        element("td" if index else "th", cell, data_sort=row.keys.get(index),
                scope=None if index else "row", class_="number" if index in right else None)
        for index, cell in enumerate(row.cells)
    )  # fmt: skip
    data = {f"data_{name}": value for name, value in row.choices.items()}
    return element("tr", "".join(cells), **data)


def _controls(name: str, choices: Mapping[str, Sequence[str]]) -> str:
    selects = (
        element(
            "select",
            f'<option value="">every {escape(choice)}</option>'
            + "".join(element("option", escape(value), value=style_of(value)) for value in values),
            name=choice,
            aria_label=choice,
        )
        for choice, values in choices.items()
    )
    words = '<input type="search" placeholder="Filter" aria-label="Filter">'
    count = '<output class="muted" aria-live="polite"></output>'
    return element("div", words + "".join(selects) + count, class_="controls", data_filters=name)
