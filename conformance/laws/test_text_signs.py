"""TX: signs that are not in ASCII, code, markup and links."""

from conformance.laws.support.text_cases import law_from_pairs, law_from_table

test_links_are_read_as_words = law_from_table(
    "TX-21",
    """
    example.com → example dot com. | info@example.org → info at example dot org.
    https://a1.org/b → h t t p s colon slash slash a one dot org slash b.
    http://example.net → h t t p colon slash slash example dot net.
    www.example.com → w w w dot example dot com. | bbc.co.uk → bbc dot co dot uk.
    """,
)

test_links_of_every_scheme_are_read_without_a_sentence_end = law_from_table(
    "TX-43",
    """
    ftp://a.org → f t p colon slash slash a dot org.
    HTTPS://A.ORG → h t t p s colon slash slash a dot org.
    sftp://host/x → s f t p colon slash slash host slash x.
    file:///tmp → file colon slash slash slash tmp.
    ssh://me@a.org:22 → s s h colon slash slash me at a dot org colon twenty-two.
    ws://localhost:3000 → w s colon slash slash localhost colon three thousand.
    git://a.org/b.git → git colon slash slash a dot org slash b dot git.
    s3://bucket/key → s three colon slash slash bucket slash key.
    http://localhost:8080/a → h t t p colon slash slash localhost colon eight thousand eighty \
    slash a.
    https://a.org/b?c=d&e=f#g → h t t p s colon slash slash a dot org slash b question mark c \
    equals d and e equals f hash g.
    https://a.org/b!c → h t t p s colon slash slash a dot org slash b c.
    See https://a.org/b. Then go → see h t t p s colon slash slash a dot org slash b. then go.
    (https://a.org/b_c), so → , h t t p s colon slash slash a dot org slash b c, so.
    a.org/b?c=d is → a dot org slash b question mark c equals d is.
    a.org:8080 → a dot org colon eight thousand eighty.
    10.0.0.1:80 → ten dot zero dot zero dot one colon eighty.
    mailto:me@a.org → mail to me at a dot org.
    https://my-site-2.org → h t t p s colon slash slash my-site dash two dot org.
    """,
)

test_unit_signs_are_units = law_from_table(
    "TX-44",
    """
    20 μg of it → twenty micrograms of it. | 20 µg of it → twenty micrograms of it.
    30 µm → thirty micrometers. | 7 µs → seven microseconds.
    0.5 µL → zero point five microliters. | 22 μF → twenty-two microfarads.
    5 µSv → five microsieverts. | 20 μA → twenty microamps. | 8 Ω → eight ohms.
    8 \u2126 → eight ohms. | 2.2 kΩ → two point two kilohms. | 10 MΩ → ten megohms.
    30 ℃ now → thirty degrees celsius now. | 70℉ → seventy degrees fahrenheit.
    7㎏ → seven kilograms. | 60㎞/h → sixty kilometers per hour. | 30㎡ → thirty square meters.
    5㎥ → five cubic meters. | 9㎎ and 5㎖ → nine milligrams and five milliliters.
    50㎐ → fifty hertz. | 5㎧ → five meters per second. | 500 Å → five hundred angstroms.
    10 N·m → ten newton meters. | 25 µg/m³ → twenty-five micrograms per cubic meter.
    10 ｋｇ → ten kilograms. | 300 \u212a → three hundred kelvin.
    """,
)

test_marks_of_every_script_are_read_as_those_of_english = law_from_table(
    "TX-45",
    """
    I went。You too → i went. you too. | I went．You too → i went. you too.
    I went｡You → i went. you. | so।now → so. now. | so॥now → so. now. | so۔now → so. now.
    so።now → so. now. | so։now → so. now. | so។now → so. now. | so။now → so. now.
    so꓿now → so. now. | so᙮now → so. now. | so༎now → so. now. | Go！Now？Yes → go! now? yes.
    so؟now → so? now. | so፧now → so? now. | so\u037enow → so? now.
    one、two，three → one, two, three. | one،two؛three → one, two, three. | Note：so → note. so.
    １，０００ → one thousand. | ３．５ → three point five. | ８：３０ → eight thirty.
    你好。 → ni hao.
    """,
)

test_a_middle_dot_between_factors_is_times = law_from_table(
    "TX-46",
    """
    7·3 = 21 → seven times three equals twenty-one. | 7 · 3 → seven times three.
    2⋅4 → two times four. | 8 ∙ 2 → eight times two. | 2·3·4 → two times three times four.
    6 × 7 = 42 → six times seven equals forty-two. | a·b → a times b. | x · y → x times y.
    3·x → three times x. | 1920×1080 → nineteen twenty by ten eighty. | Tea · Coffee → tea, coffee.
    col·lecció → colleccio. | ジョン・スミス → jiyon sumisu.
    """,
)

test_arrows_and_pictographs_are_silent_or_a_pause = law_from_table(
    "TX-47",
    """
    ◾ One → one. | ▶ Play → play. | ● one ■ two → one two. | ★★★ good → good. | ✓ Done → done.
    A ↔ C → a, c. | A ⇒ C → a, c. | ⬅ Back → back. | ➜ Go → go. | Hi 👍! → hi!
    Hi 👍🏽 there → hi there. | 👩‍🚀 Hi → hi. | I ❤️ it → i it. | 🇫🇷 France → france.
    1️⃣ One 2️⃣ Two → one one two two. | Hi ☎ there → hi there. | Hi :tada: → hi.
    """,
)

test_arrows_between_words_are_pauses = law_from_pairs(
    "TX-47",
    [
        ("A \u2192 C \u21d2 D", "a, c, d."),
        ("\u2192 Next", "next."),
        ("Next \u2192", "next."),
        ("one\u27f6two", "one, two."),
    ],
)

test_zero_width_characters_are_silent = law_from_pairs(
    "TX-47",
    [
        ("co\u200doperate", "cooperate."),
        ("co\u200coperate", "cooperate."),
        ("co\u200boperate", "cooperate."),
        ("\ufeffso", "so."),
        ("so\u2060so", "soso."),
        ("5\u200d kg", "five kilograms."),
        ("me\u200d@a.org", "me at a dot org."),
    ],
)

test_greek_letters_roots_and_signs_are_read_by_name = law_from_table(
    "TX-48",
    """
    π r → pi r. | 2π → two pi. | Δt → delta t. | λ = 5 → lambda equals five. | Ω → omega.
    α and β → alpha and beta. | β-carotene → beta-carotene. | 5 σ → five sigma.
    μ = 2 → mu equals two. | 𝛼 → alpha. | √9 = 3 → square root of nine equals three.
    ∛8 → cube root of eight. | √x → square root of x. | ±5 → plus or minus five.
    a ≠ b → a not equal to b. | ∞ → infinity. | a ∪ b → a union b.
    a ≤ b → a less than or equal to b. | −5 → minus five. | F♯ → f sharp. | § 5 → section five.
    № 5 → number five. | 3‰ → three per thousand. | η γάτα → i gata.
    """,
)

test_raised_numbers_are_powers_after_short_words = law_from_table(
    "TX-49",
    """
    x² → x squared. | mc³ → mc cubed. | πr² → pi r squared. | sin²x → sin squared x.
    2ⁿ → two to the power of n. | 10⁻⁹ → ten to the power of minus nine.
    x⁵ → x to the power of five. | (a)² → , a, squared. | x^2 → x squared.
    2^10 → two to the power of ten. | 10^-3 → ten to the power of minus three. | H₂O → h two o.
    1ˢᵗ → first. | Na⁺ → na plus. | the word² → the word two. | per m² → per square meter.
    in km² → in square kilometers.
    """,
)

test_operators_of_code_are_words_or_pauses = law_from_pairs(
    "TX-50",
    [
        ("a != b", "a not equal to b."),
        ("if a !== 0 then", "if a not equal to zero then."),
        ("a == b", "a equals b."),
        ("a === b", "a equals b."),
        ("a && b", "a and b."),
        ("a && !b || !c", "a and not b or not c."),
        ("a || b", "a or b."),
        ("if (!done)", "if, not done."),
        ("a -> b", "a, b."),
        ("a => b", "a, b."),
        ("a --> b", "a, b."),
        ("a <- b", "a, b."),
        ("a |> b", "a, b."),
        ("map(x => x + 2)", "map, x, x plus two."),
        ("x := 5", "x equals five."),
        ("std::vector", "std vector."),
        ("2**3", "two cubed."),
        ("x * y", "x times y."),
        ("C# or F#.", "c sharp or f sharp."),
        ("in C# minor", "in c sharp minor."),
        ("#so and #1", "so and number one."),
        ("i++", "i plus plus."),
        ("a <= b", "a less than or equal to b."),
    ],
)

test_markdown_is_not_spoken = law_from_pairs(
    "TX-51",
    [
        ("See [the guide](https://a.org/b) now", "see the guide now."),
        ('[A](b.md "Title") and [B][1]', "a and b."),
        ("so\n\n[1]: https://a.org", "so."),
        ("![A cat](cat.png) sits", "a cat sits."),
        ("# One\n## Two ##", "one. two."),
        ("One\n===\nTwo\n---", "one. two."),
        ("> She left.\n>> He stayed.", "she left. he stayed."),
        ("- [ ] milk\n- [x] eggs", "milk. eggs."),
        ("* one\n+ two\n- three", "one. two. three."),
        ("**one** *two* __three__ `four`", "one two three four."),
        ("~~one~~ and ==two==", "one and two."),
        ("```python\nso\n```", "so."),
        ("| A | B |\n|---|:-:|\n| 1 | 2 |", "a b. one two."),
        ("so[^1]\n\n[^1]: A note.", "so. a note."),
        ("***\nso", "so."),
        (r"\*so\*", "so."),
        ("<https://a.org>", "h t t p s colon slash slash a dot org."),
        ("5 > 3\n~5 and a == b", "five greater than three. about five and a equals b."),
        ("x[0](1) is [so] (so)", "x, zero, one, is, so, so."),
    ],
)

test_tags_entities_and_ssml_are_not_spoken = law_from_pairs(
    "TX-52",
    [
        ("<b>One</b> two", "one two."),
        ("<p>One two</p><p>Three</p>", "one two. three."),
        ("One<br/>two<br>three", "one. two. three."),
        ('<a href="https://a.org?b=1&c=2">So</a>', "so."),
        ("<ul><li>one</li><li>two</li></ul>", "one. two."),
        ("<!-- hidden -->so", "so."),
        ("<script>let a = 1;</script>so<style>b {}</style>", "so."),
        ("un<i>believ</i>able", "unbelievable."),
        ("mc<sup>2</sup>", "mc squared."),
        ('<speak>One <break time="1s"/> two</speak>', "one, two."),
        ('<prosody rate="slow">One</prosody>', "one."),
        ('<say-as interpret-as="date">1/2/2024</say-as>', "one dash two dash twenty twenty-four."),
        ('<sub alias="one two">12</sub>', "one two."),
        ('<ns:tag a="b">so</ns:tag>', "so."),
        ("<tag>so</tag>", "so."),
        ("Hi <name>, so", "hi name, so."),
        ("a < b and c > d", "a less than b and c greater than d."),
        ("R&amp;D", "r and d."),
        ("a &lt; b", "a less than b."),
        ("&quot;so&quot;&nbsp;it&#39;s &#x35;", "so it's five."),
        ("so &mdash; so&hellip;", "so, so..."),
        ("AT&T; so", "at and t, so."),
    ],
)
