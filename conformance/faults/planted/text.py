"""Faults of the text stage: text in, normalised sentences out."""

from __future__ import annotations

import re
from collections.abc import Callable

from conformance.faults.fault import TEXT, fault
from conformance.faults.plant import as_stage, with_rule, with_spoken, with_stages
from conformance.subject import Subject
from soprano.text import merge_short, normalize, split, split_sentences
from soprano.text.abbreviations import TITLES
from soprano.text.characters import SIGNS
from soprano.text.money import CURRENCIES
from soprano.text.numbers import cardinal
from soprano.text.rules import Rule
from soprano.text.sentences import MAX_LENGTH

Match = re.Match[str]


def with_words_changed(subject: Subject, name: str, change: Callable[[Match, str], str]) -> Subject:
    """`change(match, words)` in place of the words that a rule writes."""

    def changed(rule: Rule) -> Rule:
        spoken = rule.spoken
        assert callable(spoken)
        return rule._replace(spoken=lambda match: change(match, spoken(match)))

    return with_rule(subject, name, changed)


def with_pattern(subject: Subject, name: str, pattern: str) -> Subject:
    return with_rule(
        subject, name, lambda rule: rule._replace(pattern=re.compile(pattern, rule.pattern.flags))
    )


@fault(TEXT, "TX-11", public=True)
def three_part_time_loses_its_seconds(subject: Subject) -> Subject:
    """The rule for times reads hours and minutes and drops the seconds."""
    # The third group is the seconds: here it never matches.
    return with_pattern(subject, "time", r"(?<![\d:])(\d{1,2}):(\d{2})(?::\d{2})?(never)?(?!:?\d)")


@fault(TEXT, "TX-14", public=True)
def pounds_lose_their_unit(subject: Subject) -> Subject:
    """Text is folded to ASCII before the rules for money, which then find no pound sign."""
    from anyascii import anyascii

    def fold(match: Match) -> str:
        return str(anyascii(match[0]))

    return with_stages(subject, normalize=lambda text: normalize(re.sub("[£€¥₹]", fold, text)))


@fault(TEXT, "TX-02", public=True)
def numbers_without_hyphens_and_commas(subject: Subject) -> Subject:
    """Another number library writes "twenty one thousand two hundred", without hyphen or comma."""
    return with_words_changed(
        subject, "integer", lambda match, words: words.replace("-", " ").replace(",", "")
    )


@fault(TEXT, "TX-04", hard=True, public=True)
def big_integers_are_zero(subject: Subject) -> Subject:
    """An integer of 20 digits or more does not fit in a machine word and is read as 0."""
    return with_words_changed(
        subject,
        "integer",
        lambda match, words: "zero" if len(match[0].lstrip("0")) > 19 else words,
    )


@fault(TEXT, "TX-27", public=True)
def placeholder_taken_for_a_class(subject: Subject) -> Subject:
    """An ellipsis is protected by a placeholder, and the pattern that restores it is unescaped."""
    return with_stages(subject, normalize=lambda text: normalize(text).replace("...", "[.][.][.]"))


@fault(TEXT, "TX-18", public=True)
def older_abbreviations(subject: Subject) -> Subject:
    """The list of abbreviations is an older one, without weekdays, months and "etc"."""
    return with_pattern(subject, "short form", r"\b(APIs?|CPUs?|GPUs?)\b")


@fault(TEXT, "TX-36", public=True)
def short_pieces_stay_alone(subject: Subject) -> Subject:
    """Sentences under 30 characters are not merged with a neighbour."""
    return with_stages(subject, split=split)


@fault(TEXT, "TX-01", public=True)
def no_normaliser(subject: Subject) -> Subject:
    """The port has no normaliser: the tokenizer gets the text as it is written."""
    return with_stages(subject, normalize=lambda text: text)


@fault(TEXT, "TX-34", as_stage("split"))
def three_sentences_a_prompt(normalized: str) -> list[str]:
    """Three sentences make one prompt, which saves calls and changes the audio."""
    parts = split(normalized)
    return [" ".join(parts[i : i + 3]) for i in range(0, len(parts), 3)]


@fault(TEXT, "TX-03", hard=True)
def years_end_in_1999(subject: Subject) -> Subject:
    """Years from 2000 on are not read in pairs of digits."""
    return with_words_changed(
        subject,
        "integer",
        lambda match, words: cardinal(match[0]) if match[0].lstrip("0") >= "2000" else words,
    )


@fault(TEXT, "TX-10", hard=True)
def minutes_below_ten_lose_their_oh(subject: Subject) -> Subject:
    """8:05 is read "eight five" instead of "eight oh five"."""
    return with_words_changed(subject, "time", lambda match, words: re.sub(r"oh (?=\d)", "", words))


@fault(TEXT, "TX-13", hard=True)
def one_cent_is_several(subject: Subject) -> Subject:
    """The units of money are always in the plural."""

    def plural(match: Match, words: str) -> str:
        one, many, one_hundredth, hundredths = CURRENCIES[match["symbol"]]
        words = re.sub(rf"\b1 {one}\b", f"1 {many}", words)
        return re.sub(rf"\b1 {one_hundredth}\b", f"1 {hundredths}", words)

    return with_words_changed(subject, "money", plural)


@fault(TEXT, "TX-17", hard=True)
def title_ends_the_sentence(subject: Subject) -> Subject:
    """The full stop of "Mr." is kept, and the text is split after it."""
    return with_spoken(subject, "title", lambda match: TITLES[match[1].lower()] + ".")


@fault(TEXT, "TX-35", as_stage("split"), hard=True)
def long_sentence_cut_inside_a_word(normalized: str) -> list[str]:
    """A sentence over 300 characters is cut at character 300, even inside a word."""
    return merge_short(
        part[i : i + MAX_LENGTH].strip()
        for part in split(normalized, 10**9)
        for i in range(0, len(part), MAX_LENGTH)
    )


@fault(TEXT, "TX-35", as_stage("split"), hard=True)
def long_words_broken(normalized: str) -> list[str]:
    """In text of more than 300 characters, a word of more than 200 is broken after 150."""
    if len(normalized) <= MAX_LENGTH:
        return split_sentences(normalized)
    return split_sentences(re.sub(r"(\S{150})(?=\S{50})", r"\1 ", normalized))


@fault(TEXT, "TX-31", hard=True)
def other_scripts_left_out(subject: Subject) -> Subject:
    """Letters outside ASCII are removed instead of transliterated."""

    def kept(character: str) -> bool:
        return character.isascii() or character in SIGNS or not character.isalpha()

    return with_stages(subject, normalize=lambda text: normalize("".join(filter(kept, text))))


@fault(TEXT, "TX-30", hard=True)
def only_plain_spaces_separate(subject: Subject) -> Subject:
    """Only the space, the tab and the line feed separate words; other white space is removed."""
    return with_stages(subject, normalize=lambda text: normalize(re.sub(r"[^\S \t\n]", "", text)))


@fault(TEXT, "TX-06")
def decimals_read_as_numbers(subject: Subject) -> Subject:
    """Digits after the point are read as one number: 3.14 is "three point fourteen"."""

    def spoken(match: Match) -> str:
        whole, *parts = match[0].split(".")
        return " point ".join([cardinal(whole) if whole else "", *map(cardinal, parts)])

    return with_spoken(subject, "decimal", spoken)


@fault(TEXT, "TX-25", hard=True)
def every_hyphen_before_a_figure_is_a_minus(subject: Subject) -> Subject:
    """A hyphen before a digit is read as minus in names too."""
    return with_spoken(subject, "name", lambda match: match[0].replace("-", " minus "))


@fault(TEXT, "TX-36", hard=True)
def merged_without_a_bound(subject: Subject) -> Subject:
    """A short sentence is merged with the one before, whatever the length of that one."""
    return with_stages(
        subject, split=lambda normalized: merge_short(split(normalized), max_length=10**9)
    )


@fault(TEXT, "TX-22", hard=True)
def capitals_parted_too(subject: Subject) -> Subject:
    """Words in capitals are split into letters, like the parts of words in mixed case."""
    return with_spoken(
        subject, "mixed case", lambda match: re.sub(r"(?<=\w)(?=[A-Z])", " ", match[0])
    )


@fault(TEXT, "TX-02", as_stage("normalize"), hard=True)
def no_full_stop_at_the_end(text: str) -> str:
    """No full stop is added to text that ends without one, though the voice was trained on it."""
    normalized = normalize(text)
    return normalized if text.rstrip()[-1:] in tuple(".!?") else normalized.removesuffix(".")
