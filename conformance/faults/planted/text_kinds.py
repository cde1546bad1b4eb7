"""Faults of the text stage, one for each kind of text that readers report."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import partial
from typing import Any

from conformance.faults.fault import FOLDER, SYNTHESIS, TEXT, fault
from conformance.faults.plant import as_stage, with_spoken, with_stages
from conformance.faults.planted.text import with_words_changed
from conformance.subject import Subject
from conformance.text_profiles import load_profile
from soprano.audio import Audio
from soprano.checkpoint.folder import ModelFolder
from soprano.synthesis import SopranoTTS
from soprano.text import ENGLISH, RuleSet, normalize
from soprano.text.numbers import cardinal

Match = re.Match[str]


def without(subject: Subject, *names: str) -> Subject:
    """Text rules of these names are missing."""
    known = {rule.name for part in ENGLISH for rule in part}
    if unknown := set(names) - known:
        raise LookupError(f"no rules are named {unknown}")
    kept = (tuple(rule for rule in part if rule.name not in names) for part in ENGLISH)
    return with_stages(subject, normalize=partial(normalize, rules=RuleSet(*kept)))


def replacing(pattern: str, by: str | Callable[[Match], str]) -> Callable[[str], str]:
    """A normaliser before which something is replaced in the text."""
    return lambda text: normalize(re.sub(pattern, by, text))


@fault(TEXT, "TX-08", public=True)
def ordinals_are_numbers_with_letters(subject: Subject) -> Subject:
    """The letters of an ordinal stay behind its number: 5th is "five th"."""
    return with_spoken(subject, "ordinal", lambda match: f"{cardinal(match[1])} {match[0][-2:]}")


@fault(TEXT, "TX-10", public=True)
def times_read_as_decimals(subject: Subject) -> Subject:
    """8:15 is read as the decimal 8.15."""
    return with_spoken(subject, "time", lambda match: match[0].replace(":", "."))


@fault(TEXT, "TX-61", as_stage("normalize"), public=True)
def text_behind_a_line_with_a_link_dropped(text: str) -> str:
    """A pattern for links that end a line matches up to the end of the text."""
    return normalize(re.sub(r"(?s)(\w+://\S+)[ \t]*\n.*", r"\1", text))


@fault(TEXT, "TX-62", public=True)
def decomposed_letters_fall_apart(subject: Subject) -> Subject:
    """A combining mark separates its letter from the next one."""
    return with_stages(subject, normalize=replacing("[\u0300-\u036f]", " "))


@fault(TEXT, "TX-47", public=True)
def joiners_separate(subject: Subject) -> Subject:
    """A zero-width joiner becomes a space."""
    return with_stages(subject, normalize=replacing("[\u200b-\u200d]", " "))


@fault(TEXT, "TX-47", public=True)
def skin_tones_and_keycaps_are_spoken(subject: Subject) -> Subject:
    """The parts of an emoji that change another part are read by their names."""

    def spoken(match: Match) -> str:
        return f" {unicodedata.name(match[0])} "

    return with_stages(subject, normalize=replacing("[\u20e3\U0001f3fb-\U0001f3ff]", spoken))


@fault(TEXT, "TX-47")
def pictographs_are_spoken(subject: Subject) -> Subject:
    """Pictographs and arrows are read by their names."""

    def spoken(match: Match) -> str:
        return f" {unicodedata.name(match[0], '')} "

    return with_stages(subject, normalize=replacing("[\u2190-\u21ff\u25a0-\u27bf]", spoken))


@fault(TEXT, "TX-41", public=True, hard=True)
def apostrophe_behind_s_is_a_quotation_mark(subject: Subject) -> Subject:
    """A typographic apostrophe after s is taken for the end of a quotation."""
    return with_stages(subject, normalize=replacing("s\u2019", "s "))


@fault(TEXT, "TX-61", as_stage("normalize"), public=True, hard=True)
def text_cut_at_4096_characters(text: str) -> str:
    """A buffer for the text holds 4,096 characters."""
    return normalize(text[:4096])


@fault(TEXT, "TX-61", as_stage("normalize"), public=True, hard=True)
def text_cut_at_65536_characters(text: str) -> str:
    """The length of the text is kept in 16 bits."""
    return normalize(text[:65536])


@fault(TEXT, "TX-61", as_stage("normalize"), public=True, hard=True)
def text_ends_at_nul(text: str) -> str:
    """The text crosses a C string, which ends at the first NUL."""
    return normalize(text.partition("\0")[0])


@fault(TEXT, "TX-61", as_stage("normalize"), hard=True)
def text_ends_at_a_private_character(text: str) -> str:
    """A private character marks the end of the text inside."""
    return normalize(re.split("[\U0010fff0-\U0010ffff]", text)[0])


@fault(TEXT, "TX-44")
def micro_is_milli(subject: Subject) -> Subject:
    """The Greek letter of a unit is folded to m before the units are read."""
    return with_stages(subject, normalize=replacing("[µμ](?=[A-Za-z])", "m"))


@fault(TEXT, "TX-44")
def compatibility_signs_are_silent(subject: Subject) -> Subject:
    """Signs such as those of degrees and kilograms are removed like pictographs."""
    return with_stages(subject, normalize=replacing("[\u2100-\u214f\u3371-\u33df]", " "))


@fault(TEXT, "TX-45")
def foreign_full_stops_are_dots(subject: Subject) -> Subject:
    """The full stops of other scripts become a full stop without a space, read as "dot"."""
    return with_stages(subject, normalize=replacing("[。．।॥۔።]", "."))


@fault(TEXT, "TX-46")
def middle_dot_is_minus(subject: Subject) -> Subject:
    """A middle dot is folded to a hyphen."""
    return with_stages(subject, normalize=replacing("[·⋅∙]", "-"))


@fault(TEXT, "TX-14")
def few_currencies(subject: Subject) -> Subject:
    """Only the signs of five currencies are known."""
    return with_stages(subject, normalize=replacing("[¢₩₽₿₺₪₦₫₱฿₴₡₭֏₾₸]", " "))


@fault(TEXT, "TX-53")
def currency_codes_stay(subject: Subject) -> Subject:
    """The codes of currencies are read as words beside the sum."""
    return without(subject, "code before a sum", "code after a sum")


@fault(TEXT, "TX-50")
def operators_are_punctuation(subject: Subject) -> Subject:
    """`!=` ends a sentence and is read "equals"."""
    return without(subject, "not equal")


@fault(TEXT, "TX-50")
def arrows_of_code_are_greater_than(subject: Subject) -> Subject:
    """`->` and `=>` are read "greater than"."""
    return without(subject, "arrow")


@fault(TEXT, "TX-50", hard=True)
def sharp_is_lost(subject: Subject) -> Subject:
    """C# is read as C."""
    return without(subject, "sharp")


@fault(TEXT, "TX-54")
def scores_are_differences(subject: Subject) -> Subject:
    """Every hyphen between two numbers is a minus."""
    return without(subject, "between numbers")


@fault(TEXT, "TX-54")
def hours_are_subtracted(subject: Subject) -> Subject:
    """The hyphen between two times of day is a minus."""
    return without(subject, "range of hours", "range to an hour", "between numbers")


@fault(TEXT, "TX-55")
def names_are_ranges(subject: Subject) -> Subject:
    """The numbers of a name with hyphens are a range or a difference."""
    return without(subject, "name")


@fault(TEXT, "TX-56")
def spaced_thousands_fall_apart(subject: Subject) -> Subject:
    """25 000 is read as two numbers."""
    return without(subject, "spaced thousands")


@fault(TEXT, "TX-57")
def leading_zeros_are_dropped(subject: Subject) -> Subject:
    """007 is read as seven."""
    return with_words_changed(
        subject,
        "integer",
        lambda match, words: cardinal(match[0]) if match[0][0] == "0" else words,
    )


@fault(TEXT, "TX-57")
def card_numbers_are_counted(subject: Subject) -> Subject:
    """Groups of four digits are read as numbers."""
    return without(subject, "groups of four")


@fault(TEXT, "TX-02")
def numbers_with_commas_are_years(subject: Subject) -> Subject:
    """1,234 is read in pairs of digits."""
    return with_stages(subject, normalize=replacing(r"(?<!\d)(\d),(\d{3})(?![\d,])", r"\1\2"))


@fault(TEXT, "TX-58")
def decades_end_in_the_letter_s(subject: Subject) -> Subject:
    """1990s is read "nineteen ninety s"."""
    return without(subject, "decade")


@fault(TEXT, "TX-59")
def inches_are_quotation_marks(subject: Subject) -> Subject:
    """A double quotation mark after a number is silent."""
    return with_stages(subject, normalize=replacing(r"(?<=\d)[\"”″]", ""))


@fault(TEXT, "TX-60")
def mixed_fractions_are_two_numbers(subject: Subject) -> Subject:
    """1½ is read "one one over two"."""
    return without(subject, "mixed fraction")


@fault(TEXT, "TX-49")
def raised_numbers_are_numbers(subject: Subject) -> Subject:
    """x² is read "x two"."""
    return without(subject, "raised number")


@fault(TEXT, "TX-48")
def greek_letters_are_transliterated(subject: Subject) -> Subject:
    """π is read as the letter p."""
    return without(subject, "Greek letter")


@fault(TEXT, "TX-16")
def units_are_letters(subject: Subject) -> Subject:
    """5 kg is read "five kg"."""
    return without(subject, "unit")


@fault(TEXT, "TX-39")
def titles_need_a_full_stop(subject: Subject) -> Subject:
    """Mr Smith is read "mr smith"."""
    return without(subject, "rank without a stop")


@fault(TEXT, "TX-20")
def spaced_initials_end_sentences(subject: Subject) -> Subject:
    """The full stops of spaced initials remain."""
    return without(subject, "spaced initials")


@fault(TEXT, "TX-19")
def abbreviations_before_numbers_end_sentences(subject: Subject) -> Subject:
    """The full stop of "Fig. 3" remains."""
    return without(subject, "before a number")


@fault(TEXT, "TX-40")
def roman_numerals_are_words(subject: Subject) -> Subject:
    """Chapter IV is read "chapter iv"."""
    return without(subject, "numeral")


@fault(TEXT, "TX-41")
def single_quotation_marks_stay(subject: Subject) -> Subject:
    """Single quotation marks are apostrophes."""
    return with_stages(subject, normalize=replacing("[‘’']", "\u02bc"))


@fault(TEXT, "TX-42")
def cut_words_stay_cut(subject: Subject) -> Subject:
    """A hyphen at the end of a line remains."""
    return with_stages(subject, normalize=replacing(r"-[ \t]*\r?\n", "-\n\n"))


@fault(TEXT, "TX-43")
def sentences_end_inside_links(subject: Subject) -> Subject:
    """The colon and the question mark of a link are punctuation."""
    return without(subject, "link", "address")


@fault(TEXT, "TX-51 TX-52")
def markup_is_spoken(subject: Subject) -> Subject:
    """Markdown and HTML are read as text."""
    return with_stages(subject, normalize=partial(normalize, keep_markup=True))


@fault(TEXT, "TX-63")
def paragraphs_are_ignored(subject: Subject) -> Subject:
    """Every line end ends a sentence, also of hard-wrapped text."""
    from soprano import text

    original = text.join_lines
    text.join_lines = lambda lines, paragraphs=False: original(lines)  # type: ignore[attr-defined]
    return subject


@fault(FOLDER, "CK-17")
def every_model_reads_english(subject: Subject) -> Subject:
    """The normaliser that the model folder states is not read."""
    ModelFolder.normalizer = "english"  # type: ignore[assignment,method-assign]
    return subject


@fault(SYNTHESIS, "SY-23")
def skipped_texts_move_the_others(subject: Subject) -> Subject:
    """The texts after a skipped one take its position."""
    original = SopranoTTS.infer_batch

    def infer_batch(*args: Any, **options: Any) -> list[Audio]:
        return [audio for audio in original(*args, **options) if audio.sentences]

    SopranoTTS.infer_batch = infer_batch  # type: ignore[assignment,method-assign]
    return subject


@fault(TEXT, "TX-64", public=True)
def reads_like_soprano_tts(subject: Subject) -> Subject:
    """The normaliser is that of soprano-tts 0.2.0."""
    known = load_profile("soprano-tts-0.2.0").readings
    return with_stages(subject, normalize=lambda text: known.get(text) or normalize(text))
