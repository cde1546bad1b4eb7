"""Faults of the text stage: written text in, sentences to be spoken out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from conformance.faults.fault import TEXT, fault
from conformance.faults.plant import Plant
from soprano import text
from soprano.text import numbers, pieces, symbols, words


@fault("TX-01", TEXT)
def three_part_time_loses_its_seconds(plant: Plant) -> None:
    """The rule for hours and minutes takes the first two parts of a three-part time."""
    plant.rule("time", lambda match: f"{match[1]} {numbers._clock(match[2], 'nought')}")


@fault("TX-02", TEXT)
def pounds_lose_their_unit(plant: Plant) -> None:
    """Text is folded to ASCII before the rules of money, which then never see a pound sign."""
    plant.set(symbols, "_FOREIGN", re.compile(r"[^ -~\s°]"))


@fault("TX-03", TEXT)
def numbers_without_hyphens_and_commas(plant: Plant) -> None:
    """Another number library writes "twenty one thousand two hundred", without hyphen or comma."""
    cardinal = numbers.cardinal
    plant.replace(cardinal, lambda digits: cardinal(digits).replace("-", " ").replace(",", ""))


@fault("TX-04", TEXT, hard=True)
def big_integers_are_zero(plant: Plant) -> None:
    """An integer of 20 digits or more does not fit a machine word, and its parser says 0."""
    cardinal = numbers.cardinal
    plant.replace(
        cardinal, lambda digits: "zero" if len(digits.lstrip("0")) > 19 else cardinal(digits)
    )


@fault("TX-06", TEXT)
def placeholder_taken_for_a_class(plant: Plant) -> None:
    """An ellipsis is protected by a placeholder whose restoring pattern is not escaped."""
    inner = text.normalize
    plant.replace(inner, lambda given: inner(given).replace("...", "[.][.][.]"))


@fault("TX-08", TEXT)
def older_abbreviations(plant: Plant) -> None:
    """A list of abbreviations from before weekdays, months and "etc" were in it."""
    plant.rule("short form", pattern=r"\b(APIs?|CPUs?|GPUs?)\b")


@fault("TX-09", TEXT)
def short_pieces_stay_alone(plant: Plant) -> None:
    """Pieces under 30 characters are spoken by themselves."""
    plant.replace(pieces.merge_short, lambda given, *_: list(given))


@fault("TX-11", TEXT)
def no_normaliser(plant: Plant) -> None:
    """The port has no normaliser: text goes to the tokenizer as it is written."""
    plant.replace(text.normalize, lambda given: given)


@fault("TX-50", TEXT)
def three_sentences_a_prompt(plant: Plant) -> None:
    """Sentences are grouped by three, which saves calls and changes what is heard."""

    def merge(given: Iterable[str], *_: Any) -> list[str]:
        found = list(given)
        return [" ".join(found[i : i + 3]) for i in range(0, len(found), 3)]

    plant.replace(pieces.merge_short, merge)


@fault("TX-51", TEXT, hard=True)
def years_end_in_1999(plant: Plant) -> None:
    """Reading in pairs was written for the years before 2000."""
    integer = numbers._integer
    plant.rule(
        "integer", lambda m: numbers.cardinal(m[0]) if m[0].lstrip("0") >= "2000" else integer(m)
    )


@fault("TX-52", TEXT, hard=True)
def minutes_below_ten_lose_their_oh(plant: Plant) -> None:
    """8:05 is read like 8:50 would never be: "eight five"."""
    plant.set(
        numbers, "_clock", lambda figures, nought: nought if figures == "00" else str(int(figures))
    )


@fault("TX-53", TEXT, hard=True)
def one_cent_is_several(plant: Plant) -> None:
    """The units of money are always in the plural."""
    plant.set(numbers, "_count", lambda amount, one, many: f"{amount} {many}")


@fault("TX-54", TEXT, hard=True)
def title_ends_the_sentence(plant: Plant) -> None:
    """The full stop of "Mr." is kept, and the sentence is cut after it."""
    plant.rule("title", lambda match: words.TITLES[match[1].lower()] + ".")


@fault("TX-55", TEXT, hard=True)
def long_sentence_cut_inside_a_word(plant: Plant) -> None:
    """A sentence over 300 characters is cut at 300, wherever that is."""

    def split(given: str, max_length: int = pieces.MAX_LENGTH) -> list[str]:
        found = inner(given, 10**9)
        return [
            part[i : i + max_length].strip() for part in found
            for i in range(0, len(part), max_length)
        ]  # fmt: skip

    inner = pieces.split
    plant.replace(inner, split)


@fault("TX-56", TEXT, hard=True)
def other_scripts_left_out(plant: Plant) -> None:
    """Letters beyond ASCII are dropped instead of written in Latin letters."""
    plant.set(symbols, "_in_ascii", lambda character: symbols.SIGNS.get(character, ""))


@fault("TX-57", TEXT, hard=True)
def only_plain_spaces_separate(plant: Plant) -> None:
    """Of all white space only the space, the tab and the line feed part words."""
    inner = text.normalize
    odd = re.compile(r"[^\S \t\n]")
    plant.replace(inner, lambda given: inner(odd.sub("", given)))


@fault("TX-58", TEXT)
def decimals_read_as_numbers(plant: Plant) -> None:
    """What stands after the point is read as one number: 3.14 is "three point fourteen"."""

    def spoken(match: re.Match[str]) -> str:
        whole, *parts = match[0].split(".")
        said = [numbers.cardinal(part) for part in parts]
        return " point ".join([numbers.cardinal(whole) if whole else "", *said])

    plant.rule("decimal", spoken)


@fault("TX-59", TEXT, hard=True)
def every_hyphen_before_a_figure_is_a_minus(plant: Plant) -> None:
    """A hyphen before a figure is a minus in names and ranges too."""
    plant.rule("name-number", r"\1 minus ")


@fault("TX-60", TEXT, hard=True)
def merged_without_a_bound(plant: Plant) -> None:
    """Short pieces join the one before however long it has become."""
    inner = pieces.merge_short
    plant.replace(inner, lambda given, *_: inner(given, max_length=10**9))


@fault("TX-61", TEXT, hard=True)
def capitals_parted_too(plant: Plant) -> None:
    """Words in capitals alone are parted letter by letter like words in mixed case."""
    plant.rule("mixed case", lambda match: re.sub(r"(?<=\w)(?=[A-Z])", " ", match[0]))


@fault("TX-62", TEXT, hard=True)
def no_full_stop_at_the_end(plant: Plant) -> None:
    """Text that ends without a mark gets none, though the voice has learnt to end on one."""
    inner = text.normalize

    def normalize(given: str) -> str:
        said = inner(given)
        marked = given.rstrip()[-1:] in tuple(".!?")
        return said if marked else said.removesuffix(".")

    plant.replace(inner, normalize)
