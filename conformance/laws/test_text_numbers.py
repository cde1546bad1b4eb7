"""TX: normalisation of numbers and of the signs beside them."""

from conformance.laws.support.text_cases import law_from_table

test_integers_are_cardinals_without_and = law_from_table(
    "TX-02",
    """
    0 → zero. | 7 → seven. | 21 → twenty-one. | 99 → ninety-nine. | 110 → one hundred ten.
    1,001 → one thousand one. | 4521 → four thousand, five hundred twenty-one.
    123456 → one hundred twenty-three thousand, four hundred fifty-six. | 1000000 → one million.
    #12 → number twelve. | 1,234 people → one thousand, two hundred thirty-four people.
    1,984 → one thousand, nine hundred eighty-four. | 2,024 votes → two thousand twenty-four votes.
    """,
)

test_integers_between_1001_and_2999_are_read_in_pairs = law_from_table(
    "TX-03",
    """
    1000 → one thousand. | 1066 → ten sixty-six. | 1100 → eleven hundred.
    1905 → nineteen oh five. | 1984 → nineteen eighty-four. | 2000 → two thousand.
    2009 → two thousand nine. | 2010 → twenty ten. | 2100 → twenty-one hundred.
    2999 → twenty-nine ninety-nine. | 3000 → three thousand.
    In 1984, 1,984 → in nineteen eighty-four, one thousand, nine hundred eighty-four.
    1,500 → fifteen hundred.
    """,
)

test_big_integers_keep_their_value = law_from_table(
    "TX-04",
    """
    10000000000000000000 → ten quintillion. | 100000000000000000000 → one hundred quintillion.
    1000000000000000000000000000000 → one nonillion.
    12345678901234567890 → twelve quintillion, three hundred forty-five quadrillion, six \
    hundred seventy-eight trillion, nine hundred one billion, two hundred thirty-four \
    million, five hundred sixty-seven thousand, eight hundred ninety.
    900000000000000000000000000000000005 → nine hundred decillion five.
    """,
)

test_only_commas_that_group_thousands_or_lakhs_belong_to_a_number = law_from_table(
    "TX-05",
    """
    4,521 → four thousand, five hundred twenty-one.
    1,234,567 → one million, two hundred thirty-four thousand, five hundred sixty-seven.
    1,00,000 → one hundred thousand. | 1,2,3 → one, two, three. | 4, 8, 15 → four, eight, fifteen.
    """,
)

test_decimals_are_read_digit_by_digit_after_the_point = law_from_table(
    "TX-06",
    """
    3.14159 → three point one four one five nine. | 0.05 → zero point zero five.
    1,234.56 → one thousand, two hundred thirty-four point five six.
    a gap of .5 only → a gap of point five only.
    version 3.11.4 → version three point one one point four. | It is 3.0. → it is three point zero.
    """,
)

test_fractions_and_arithmetic_are_read_as_words = law_from_table(
    "TX-07",
    """
    1/2 → one over two. | 3/4 cup → three over four cup. | ½ → one over two.
    1⁄3 → one over three. | 5 + 3 = 8 → five plus three equals eight. | 2*3 → two times three.
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
    3:00pm → three o'clock pm. | 13:00 → thirteen minutes. | at 2:15 PM → at two fifteen pm.
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
    $1,500 → fifteen hundred dollars.
    $1,234.56 → one thousand, two hundred thirty-four dollars, fifty-six cents.
    $0 → zero dollars. | $2.5 → two dollars, fifty cents.
    $3.459 → three point four five nine dollars. | $2.5 million → two point five million dollars.
    $10M → ten million dollars. | paid in $ → paid in dollars.
    """,
)

test_every_currency_keeps_its_unit = law_from_table(
    "TX-14",
    """
    £20 → twenty pounds. | £1 → one pound. | £4.50 → four pounds, fifty pence. | £0.01 → one penny.
    £3bn → three billion pounds. | £1,200 → twelve hundred pounds. | €12 → twelve euros.
    50€ → fifty euros. | €1.20 → one euro, twenty cents. | ¥900 → nine hundred yen.
    ₹5 → five rupees. | 60¢ each → sixty cents each. | 1¢ → one cent. | ₩5,000 → five thousand won.
    50₽ → fifty rubles. | ₿0.5 → zero point five bitcoins. | ₺10 → ten lira.
    ₪5.50 → five shekels, fifty agorot. | ₦7 → seven naira. | ₫9 → nine dong. | ₱5 → five pesos.
    ฿30 → thirty baht. | ₴2 → two hryvnias. | ₡4 → four colones. | ₭6 → six kip.
    ֏5 → five armenian drams. | ￥500 → five hundred yen. | ₾1 → one lari. | 20₸ → twenty tenge.
    """,
)

test_a_sum_with_a_code_or_a_rate_is_read_once = law_from_table(
    "TX-53",
    """
    $40USD → forty us dollars. | $40 USD → forty us dollars. | 40 USD → forty us dollars.
    USD 40 → forty us dollars. | €5 EUR → five euros. | 20 CHF → twenty swiss francs.
    GBP 3.50 → three pounds, fifty pence. | C$5 → five canadian dollars.
    A$5 → five australian dollars. | R$5 → five reais. | US$40 → us forty dollars.
    5 million USD → five million us dollars. | -$5 → minus five dollars.
    $-5 → minus five dollars. | $20/hr → twenty dollars per hour.
    €5/kg → five euros per kilogram. | 30 EUR/month → thirty euros per month.
    """,
)

test_magnitudes_and_percent_are_read_as_words = law_from_table(
    "TX-15",
    """
    10K → ten thousand. | 1.5M users → one point five million users.
    7B people → seven billion people. | 3T → three trillion. | 15% → fifteen percent.
    100 % sure → one hundred percent sure. | ~50 → about fifty. | 2M views → two million views.
    Room 12B → room twelve b. | Class 4B has → class four b has.
    """,
)

test_units_are_read_as_words = law_from_table(
    "TX-16",
    """
    440 Hz → four hundred forty hertz. | 44.1 kHz → forty-four point one kilohertz.
    3 GHz → three gigahertz. | 5 MB → five megabytes. | 20 GBs → twenty gigabytes.
    20°C → twenty degrees celsius. | 1° more → one degree more. | 6 ft. long → six feet long.
    5 ms. later → five milliseconds later. | 20 ºC → twenty degrees celsius.
    5 m² → five square meters. | 1 m² → one square meter.
    1.1 km² → one point one square kilometers. | 30m³ → thirty cubic meters. | the 1º → the one o.
    5 km → five kilometers. | 1 kg → one kilogram. | 0.5 kg → zero point five kilograms.
    1.0 g → one point zero grams. | 23kg → twenty-three kilograms. | 3mm → three millimeters.
    5 cm by 9 in. wide → five centimeters by nine inches wide.
    3 lb 4 oz → three pounds four ounces. | 10 lbs. of it → ten pounds of it.
    60 mph → sixty miles per hour. | 80 km/h → eighty kilometers per hour.
    9 m/s → nine meters per second. | 9.8 m/s² → nine point eight meters per second squared.
    2 g/cm³ → two grams per cubic centimeter. | 5 mg/kg/day → five milligrams per kilogram per day.
    7 L/100 km → seven liters per one hundred kilometers. | 20 min → twenty minutes.
    1 hr → one hour. | 2 hrs → two hours. | 30 sec → thirty seconds. | 5 yrs → five years.
    12V → twelve volts. | 60W → sixty watts. | 20 mA → twenty milliamps.
    5 kWh → five kilowatt hours. | 200 kPa → two hundred kilopascals.
    75 dB → seventy-five decibels. | 3000 rpm → three thousand revolutions per minute.
    60 fps → sixty frames per second. | 10 Mbps → ten megabits per second.
    16 GiB → sixteen gibibytes. | 500 kcal → five hundred kilocalories.
    30 sq ft → thirty square feet. | 5 km2 → five square kilometers. | 2 tbsp → two tablespoons.
    a 5-kg bag → a five-kilogram bag. | a 5 km run → a five kilometer run.
    5 million km → five million kilometers. | 5 KM → five kilometers. | per kg → per kilogram.
    45° N → forty-five degrees north. | 5-10 km → five to ten kilometers.
    3 m of it → three meters of it. | at 5 pm → at five pm. | 5 in the box → five in the box.
    a 4K film → a four thousand film.
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
    sale - 50% off → sale, fifty percent off. | What is 9-5? → what is nine minus five?
    I left—2 days later → i left, two days later. | 16:9 → sixteen to nine. | x - y → x minus y.
    a = -b → a equals minus b. | from -5 to -2 → from minus five to minus two.
    9 - 4 is five → nine minus four is five. | y=-2x → y equals minus two x.
    (-3) → , minus three.
    """,
)

test_hyphen_between_times_scores_and_years_is_to = law_from_table(
    "TX-54",
    """
    open 8am-6pm → open eight am to six pm. | open 9-5pm → open nine to five pm.
    10 am - 4 pm → ten am to four pm. | 10 a.m.-4 p.m. → ten a m to four p m.
    Mon-Fri → monday to friday. | Sat–Sun → saturday to sunday. | June-August → june to august.
    9:00-17:00 daily → nine o'clock to seventeen o'clock daily. | open 9-5 → open nine to five.
    The Bears won 21-14. → the bears won twenty-one to fourteen. | a 2-1 win → a two to one win.
    We lost 4 - 2 → we lost four to two. | Rovers 3 - 1 City → rovers three to one city.
    98–96 → ninety-eight to ninety-six. | a 60-40 split → a sixty to forty split.
    a 20-20 view → a twenty twenty view. | it ended 2-2 → it ended two two.
    John 3:16-18 → john three sixteen to eighteen.
    the 1939-1945 war → the nineteen thirty-nine to nineteen forty-five war.
    1960s-70s → nineteen sixties to seventies. | 5%-9% → five percent to nine percent.
    5kg-9kg → five kilograms to nine kilograms. | 1st-3rd → first to third.
    a 4-4-2 line → a four four two line. | 2-for-1 → two for one.
    """,
)

test_names_with_digits_have_neither_minus_nor_to = law_from_table(
    "TX-55",
    """
    GPT-4 → gpt four. | GPT-4-32k → gpt four thirty-two k. | Llama-2-7B → llama two seven b.
    Mistral-7B → mistral seven b. | Phi3-3.8B → phi three three point eight b.
    gpt-3.5-turbo → gpt three point five-turbo.
    the i7-9700K → the i seven nine thousand, seven hundred k.
    a Boeing 747-400 → a boeing seven hundred forty-seven four hundred.
    A320-200 → a three hundred twenty two hundred.
    CVE-2021-4428 → cve twenty twenty-one four thousand, four hundred twenty-eight.
    F-16C → f sixteen c. | UTF-8 → utf eight. | COVID-19-related → covid nineteen-related.
    SHA-256 → sha two hundred fifty-six. | iPhone-15-Pro → iphone fifteen-pro.
    Figure 6-2 → figure six two. | 24-Dec-2024 → twenty-four december twenty twenty-four.
    mid-1990s → mid nineteen nineties. | a 10-year-old → a ten-year-old. | UTC-5 → utc minus five.
    """,
)

test_thousands_are_grouped_by_spaces_apostrophes_and_underscores = law_from_table(
    "TX-56",
    """
    35 000 cars → thirty-five thousand cars. | 2 000 000 → two million.
    1 984 cars → one thousand, nine hundred eighty-four cars. | 35\xa0000 → thirty-five thousand.
    35\u202f000 → thirty-five thousand. | 35\u2009000 → thirty-five thousand.
    2'000'000 → two million. | 2’500 → twenty-five hundred.
    2_500_000 → two million, five hundred thousand.
    12 345.5 → twelve thousand, three hundred forty-five point five.
    € 5 000 → five thousand euros. | 25 000 km → twenty-five thousand kilometers.
    299 792 458 → two hundred ninety-nine million, seven hundred ninety-two thousand, four \
    hundred fifty-eight.
    May 5 200 came → may five two hundred came. | 5 20 → five twenty. | my_5_x → my five x.
    """,
)

test_leading_zeros_and_groups_of_four_are_read_digit_by_digit = law_from_table(
    "TX-57",
    """
    007 → zero zero seven. | ZIP 01234 → zip zero one two three four. | 0042 → zero zero four two.
    00 → zero zero. | 0 → zero. | room 04 → room zero four.
    file 001.txt → file zero zero one dot txt.
    4000 1234 5678 9010 → four zero zero zero, one two three four, five six seven eight, nine \
    zero one zero.
    your code 1234 5678 → your code one two three four, five six seven eight.
    3700 123456 78901 → three seven zero zero, one two three four five six, seven eight nine \
    zero one.
    4000-1234-5678-9010 → four zero zero zero, one two three four, five six seven eight, nine \
    zero one zero.
    90210-1234 → nine zero two one zero, one two three four.
    123-45-6789 → one two three, four five, six seven eight nine.
    ISBN 978-0-12-345678-9 → isbn nine seven eight, zero, one two, three four five six seven \
    eight, nine.
    555-0123 → five five five, zero one two three.
    ring 555 0123 → ring five five five, zero one two three.
    in 2019 5000 came → in twenty nineteen five thousand came. | 05:07 → five oh seven.
    May 05 → may five. | 0.5 → zero point five.
    05/06/2021 → five dash six dash twenty twenty-one.
    """,
)

test_decades_are_plurals = law_from_table(
    "TX-58",
    """
    the 1770s → the seventeen seventies. | 1990s → nineteen nineties.
    the 1900s → the nineteen hundreds. | the 2000s → the two thousands.
    the 2010s → the twenty tens. | his 30s → his thirties. | the '90s → the nineties.
    the ’60s → the sixties. | the 80's → the eighties. | in the 20s → in the twenties.
    10s or 100s → tens or hundreds. | the late '70s → the late seventies.
    class of '05 → class of oh five.
    """,
)

test_feet_and_inches_are_words = law_from_table(
    "TX-59",
    """
    He is 6'2" tall → he is six feet two inches tall. | 5′11″ → five feet eleven inches.
    6’2” tall → six feet two inches tall. | 5' 4" → five feet four inches.
    1'1" → one foot one inch. | a 27" screen → a twenty-seven inch screen.
    it is 12" long → it is twelve inches long. | a 10′ pole → a ten foot pole.
    a 6' fence → a six foot fence. | it is 6' high → it is six feet high.
    a 3½" disk → a three and a half inch disk.
    He said "it is 12" and left → he said it is twelve and left.
    "Route 66" is → route sixty-six is. | 40° 26′ → forty degrees twenty-six minutes.
    """,
)

test_a_fraction_after_a_whole_number_is_mixed = law_from_table(
    "TX-60",
    """
    1½ cups → one and a half cups. | 1 1/2 cups → one and a half cups.
    2¾ → two and three quarters. | 3⅓ → three and one third. | 1⅔ → one and two thirds.
    5⅛ → five and one eighth. | 4⅗ → four and three fifths.
    2 3/8 inches → two and three eighths inches. | 10 7/8 → ten and seven eighths.
    1-1/2 cups → one and a half cups. | 5 15/16 → five and fifteen sixteenths.
    1½ kg → one and a half kilograms. | 9 3/4 → nine and three quarters.
    1 2/1 → one two over one. | 3/4 → three over four.
    """,
)

test_letters_and_digits_are_separated = law_from_table(
    "TX-23",
    """
    MP3 → mp three. | H2O → h two o. | R2D2 → r two d two. | 23xy → twenty-three xy.
    the B52 → the b fifty-two. | 4x4 → four x four.
    """,
)
