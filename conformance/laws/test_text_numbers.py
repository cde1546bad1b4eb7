"""TX: normalisation of numbers and of the signs beside them."""

from conformance.laws.text_cases import law_from_table

test_integers_are_cardinals_without_and = law_from_table(
    "TX-02",
    """
    0 → zero. | 7 → seven. | 21 → twenty-one. | 99 → ninety-nine. | 110 → one hundred ten.
    1,001 → ten oh one. | 4521 → four thousand, five hundred twenty-one.
    123456 → one hundred twenty-three thousand, four hundred fifty-six. | 1000000 → one million.
    007 → seven. | #12 → number twelve.
    """,
)

test_integers_between_1001_and_2999_are_read_in_pairs = law_from_table(
    "TX-03",
    """
    1000 → one thousand. | 1066 → ten sixty-six. | 1100 → eleven hundred.
    1905 → nineteen oh five. | 1984 → nineteen eighty-four. | 2000 → two thousand.
    2009 → two thousand nine. | 2010 → twenty ten. | 2100 → twenty-one hundred.
    2999 → twenty-nine ninety-nine. | 3000 → three thousand.
    """,
)

test_big_integers_keep_their_value = law_from_table(
    "TX-04",
    """
    10000000000000000000 → ten quintillion. | 100000000000000000000 → one hundred quintillion.
    1000000000000000000000000000000 → one nonillion.
    12345678901234567890 → twelve quintillion, three hundred forty-five quadrillion, six hundred \
    seventy-eight trillion, nine hundred one billion, two hundred thirty-four million, five \
    hundred sixty-seven thousand, eight hundred ninety.
    900000000000000000000000000000000005 → nine hundred decillion five.
    """,
)

test_only_commas_that_group_thousands_or_lakhs_belong_to_a_number = law_from_table(
    "TX-05",
    """
    4,521 → four thousand, five hundred twenty-one.
    1,234,567 → one million, two hundred thirty-four thousand, five hundred sixty-seven.
    1,00,000 → one hundred thousand. | 1,2,3 → one, two, three.
    4, 8, 15 → four, eight, fifteen.
    """,
)

test_decimals_are_read_digit_by_digit_after_the_point = law_from_table(
    "TX-06",
    """
    3.14159 → three point one four one five nine. | 0.05 → zero point zero five.
    1,234.56 → twelve thirty-four point five six. | a gap of .5 only → a gap of point five only.
    version 3.11.4 → version three point one one point four.
    It is 3.0. → it is three point zero.
    """,
)

test_fractions_and_arithmetic_are_read_as_words = law_from_table(
    "TX-07",
    """
    1/2 → one over two. | 3/4 cup → three over four cup. | 2½ → two one over two.
    5 + 3 = 8 → five plus three equals eight. | 2*3 → two times three.
    10 - 4 → ten minus four. | fell to -5 → fell to minus five. | 8 / 2 → eight over two.
    2 * 3 * 4 → two times three times four. | 3² is nine → three squared is nine.
    x² + y³ → x squared plus y cubed. | (a + b)² → , a plus b, squared.
    10⁶ → ten to the power of six. | 10⁻³ → ten to the power of minus three.
    """,
)

test_ordinals_are_read_as_words = law_from_table(
    "TX-08",
    """
    1st → first. | 2nd → second. | 3rd → third. | 12th → twelfth. | 21st → twenty-first.
    100th → one hundredth. | 1,000th → one thousandth. | the 21ST → the twenty-first.
    2nd-floor → second-floor.
    """,
)

test_parts_of_a_date_are_joined_by_dash = law_from_table(
    "TX-09",
    """
    12/31/2024 → twelve dash thirty-one dash twenty twenty-four.
    1/1/2000 → one dash one dash two thousand. | 3/14/15 → three dash fourteen dash fifteen.
    7-4-1976 → seven dash four dash nineteen seventy-six.
    2024-01-15 → twenty twenty-four dash one dash fifteen.
    May 5th, 2025 → may fifth, twenty twenty-five.
    """,
)

test_times_are_read_as_on_a_clock = law_from_table(
    "TX-10",
    """
    8:15 → eight fifteen. | 9:00 → nine o'clock. | 12:00 → twelve o'clock. | 6:05 → six oh five.
    05:00 → five o'clock. | 22:35 → twenty-two thirty-five. | 0:00 → zero.
    13:00 → thirteen minutes. | at 2:15 PM → at two fifteen pm.
    """,
)

test_three_part_times_keep_their_seconds = law_from_table(
    "TX-11",
    """
    1:15:30 → one fifteen thirty. | 2:03:05 → two oh three oh five. | 10:15:00 → ten fifteen.
    1:00:05 → one oh oh oh five. | 1:00:00 → one oh oh. | 0:05:09 → five oh nine.
    0:15:30 → fifteen thirty. | 00:01:00 → one oh oh. | 00:00:42 → forty-two.
    """,
)

test_telephone_numbers_are_read_digit_by_digit_in_groups = law_from_table(
    "TX-12",
    """
    555-123-4567 → five five five, one two three, four five six seven.
    (555) 123-4567 → five five five, one two three, four five six seven.
    555.010.0199 → five five five, zero one zero, zero one nine nine.
    (555)123-4567 → five five five, one two three, four five six seven.
    1-800-555-0199 → one eight zero zero, five five five, zero one nine nine.
    +44 20 7946 0958 → plus four four, two zero, seven nine four six, zero nine five eight.
    +44 (0)20-7946-0958 → plus four four, two zero, seven nine four six, zero nine five eight.
    +49 30 901820 → plus four nine, three zero, nine zero one eight two zero.
    +1 212 555 0199 → plus one two one two, five five five, zero one nine nine.
    020 7946 0958 → zero two zero, seven nine four six, zero nine five eight.
    up by +5 → up by plus five. | +12 345 → plus twelve three hundred forty-five.
    """,
)

test_dollars_are_read_with_cents = law_from_table(
    "TX-13",
    """
    $5 → five dollars. | $1 → one dollar. | $12.50 → twelve dollars, fifty cents.
    $1.01 → one dollar, one cent. | $0.27 → twenty-seven cents. | $100.00 → one hundred dollars.
    $1,500 → fifteen hundred dollars. | $0 → zero dollars. | $2.5 → two dollars, fifty cents.
    $3.459 → three point four five nine dollars.
    $2.5 million → two point five million dollars. | $10M → ten million dollars.
    paid in $ → paid in dollars.
    """,
)

test_every_currency_keeps_its_unit = law_from_table(
    "TX-14",
    """
    £20 → twenty pounds. | £1 → one pound. | £4.50 → four pounds, fifty pence.
    £0.01 → one penny. | £3bn → three billion pounds. | £1,200 → twelve hundred pounds.
    €12 → twelve euros. | 50€ → fifty euros. | €1.20 → one euro, twenty cents.
    ¥900 → nine hundred yen. | ₹5 → five rupees.
    """,
)

test_magnitudes_and_percent_are_read_as_words = law_from_table(
    "TX-15",
    """
    10K → ten thousand. | 1.5M users → one point five million users.
    7B people → seven billion people. | 3T → three trillion. | 15% → fifteen percent.
    100 % sure → one hundred percent sure. | ~50 → about fifty.
    """,
)

test_units_are_read_as_words = law_from_table(
    "TX-16",
    """
    440 Hz → four hundred forty hertz. | 44.1 kHz → forty-four point one kilohertz.
    3 GHz → three gigahertz. | 5 MB → five megabyte. | 20 GBs → twenty gigabytes.
    20°C → twenty degrees celsius. | 1° more → one degree more. | 6 ft. long → six feet long.
    5 ms. later → five milliseconds later. | 20 ºC → twenty degrees celsius.
    5 m² → five square meters. | 1 m² → one square meter.
    1.1 km² → one point one square kilometers.
    30m³ → thirty cubic meters. | the 1º → the one o. | 5 km → five km.
    """,
)

test_hyphen_is_minus_only_in_arithmetic = law_from_table(
    "TX-25",
    """
    COVID-19 → covid nineteen. | the F-16 → the f sixteen. | well-known → well-known.
    8-bit → eight-bit. | n-1 → n minus one. | 3-1 → three minus one. | 5–12 → five to twelve.
    2010–2015 → twenty ten to twenty fifteen. | 5-10 people → five to ten people.
    1914-1918 → nineteen fourteen to nineteen eighteen. | 1990-95 → nineteen ninety to ninety-five.
    $5-10 → five to ten dollars. | $5-$10 million → five to ten million dollars.
    2.5-3.5 → two point five to three point five. | 8:00-9:30 → eight o'clock to nine thirty.
    2-5 = -3 → two minus five equals minus three. | 15-5 → fifteen minus five.
    1-2-3 → one minus two minus three. | 9 * 2-5 → nine times two minus five.
    sale - 50% off → sale, fifty percent off.
    I left—2 days later → i left, two days later. | 16:9 → sixteen to nine.
    """,
)

test_letters_and_digits_are_separated = law_from_table(
    "TX-23",
    """
    MP3 → mp three. | H2O → h two o. | R2D2 → r two d two. | 23kg → twenty-three kg.
    1990s → nineteen ninety s.
    """,
)
