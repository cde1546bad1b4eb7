"""TX: normalisation of words and punctuation."""

from conformance.laws.support.text_cases import law_from_pairs, law_from_table

test_titles_are_read_as_words = law_from_table(
    "TX-17",
    """
    Dr. Smith → doctor smith. | Mr. and Mrs. Jones → mister and misess jones. | Ms. Ray → miss ray.
    St. Paul → saint paul. | Gen. Lee → general lee. | Lt. Col. Fox → lieutenant colonel fox.
    Capt. Roy → captain roy. | Sgt. Oak → sergeant oak. | King Jr. spoke → king junior spoke.
    Ft. Knox → fort knox. | Ltd. firms → limited firms. | mr. fox → mister fox.
    Prof. Lee → professor lee. | Rev. Green → reverend green.
    Gov. Hill met Sen. Bell → governor hill met senator bell. | Mt. Fuji → mount fuji.
    Rep. Cole and Det. Ray → representative cole and detective ray.
    """,
)

test_titles_before_a_name_need_no_full_stop = law_from_table(
    "TX-39",
    """
    Mr Hill and Mrs Jones → mister hill and misess jones. | Ms Ray came → miss ray came.
    Dr Who and Prof Lee → doctor who and professor lee. | St John → saint john.
    Capt Roy, Sgt Oak and Lt Dan → captain roy, sergeant oak and lieutenant dan.
    Mt Fuji → mount fuji. | MR HILL → mister hill. | Rev Green → reverend green.
    Davis Jr sang → davis junior sang. | Main St is closed → main street is closed.
    Gen Z → gen z. | the dr said → the dr said.
    """,
)

test_weekdays_months_and_short_forms_are_read_as_words = law_from_table(
    "TX-18",
    """
    Mon, Tues and Wed → monday, tuesday and wednesday.
    Thurs, Fri, Sat → thursday, friday, saturday. | Jan to Mar → january to march.
    Sept and Dec → september and december. | pens, etc, here → pens, et cetera, here.
    and/or → and or. | 5th Ave → fifth avenue. | two APIs and a CPU → two a p i's and a c p u.
    On Jan. 5 we met → on january five we met. | Park Blvd → park boulevard.
    the dept. head → the department head. | approx. ten → approximately ten.
    us vs. them → us versus them. | Elm Rd. and Oak Ln. now → elm road and oak lane now.
    """,
)

test_full_stop_of_an_abbreviation_ends_a_sentence_only_where_one_can_end = law_from_table(
    "TX-19",
    """
    Baker & Co. → baker and company. | on Main St. today → on main street today.
    tea, etc. were sold → tea, et cetera were sold. | at 5 p.m. We left → at five p m. we left.
    at 5 p.m. we left → at five p m we left. | I met Prof. Hill → i met professor hill.
    Baker & Co. They sell → baker and company. they sell.
    Acme Inc. and Foo Corp. agree → acme incorporated and foo corporation agree.
    It was Ray vs. Hill → it was ray versus hill. | see Fig. 3 → see figure three.
    Vol. 2, p. 7 → volume two, page seven. | No. 5 of Ch. 4 → number five of chapter four.
    pp. 3-5 → pages three to five. | born c. 1850 → born circa eighteen fifty.
    ext. 42 → extension forty-two. | Sec. 2 → section two.
    in the U.S. The law → in the u s. the law. | e.g. You → e g you.
    The answer is no. 5 left → the answer is no. five left.
    """,
)

test_initials_are_read_letter_by_letter = law_from_table(
    "TX-20",
    """
    the U.S. economy → the u s economy. | the U.S. → the u s. | e.g. apples → e g apples.
    J.K. Rowling → j k rowling. | J. K. Rowling → j k rowling. | by W. H. Auden → by w h auden.
    John F. Kennedy → john f kennedy. | George R. R. Martin → george r r martin.
    C. S. Lewis wrote → c s lewis wrote. | Bell, J. and Ray, K. → bell, j and ray, k.
    a Ph.D. in law → a p h d in law. | Vitamin C. It helps → vitamin c. it helps.
    Plan B. Then go → plan b. then go.
    """,
)

test_roman_numerals_are_numbers_after_what_they_count = law_from_table(
    "TX-40",
    """
    Chapter IV → chapter four. | chapter iv → chapter four. | PART II → part two.
    Act I, Scene V → act one, scene five. | Book XII → book twelve. | Vol. III → volume three.
    Section IX → section nine. | World War I → world war one. | Gulf War II → gulf war two.
    Super Bowl LVIII → super bowl fifty-eight. | Type II → type two. | Title IX → title nine.
    Psalm XXIII → psalm twenty-three. | Apollo XI → apollo eleven. | Chapter Ⅳ → chapter four.
    Henry VIII → henry the eighth. | Louis XIV → louis the fourteenth.
    Charles V → charles the fifth. | Queen Elizabeth II → queen elizabeth the second.
    James I. → james the first. | Henry VIII's wives → henry the eighth's wives.
    Tsar Boris III → tsar boris the third. | the XIX century → the nineteenth century.
    Malcolm X → malcolm x. | the part I like → the part i like. | Appendix C → appendix c.
    vitamin D → vitamin d. | XVIII → xviii. | mix → mix.
    """,
)

test_words_in_mixed_case_are_split_at_capitals = law_from_table(
    "TX-22",
    """
    JavaScript → java script. | OpenAI → open a i. | NASA → nasa. | PDFs → pdf's.
    LMDeploy → l m deploy. | iPhone → iphone. | HELLO → hello.
    """,
)

test_symbols_are_read_as_words = law_from_table(
    "TX-24",
    """
    R&D → r and d. | a = b → a equals b. | x <= y → x less than or equal to y.
    x >= y → x greater than or equal to y. | x < y → x less than y. | x > y → x greater than y.
    C++ → c plus plus. | yes/no → yes slash no. | C:\\temp → c. backslash temp.
    my_name → my name. | *big* → big. | a B- grade → a b minus grade. | +/-3 → plus or minus three.
    Press the # key → press the hash key. | so ###### so → so so.
    """,
)

test_dashes_become_pauses_and_quotation_marks_are_removed = law_from_table(
    "TX-26",
    """
    one — two → one, two. | one—two → one, two. | one - two → one, two. | one -- two → one, two.
    “So,” he said → so, he said. | it’s → it's. | «Oui» → oui. | Wait: now; go → wait. now, go.
    「So」 and 『so』 → so and so. | „So“ → so. | ⸺ so → so.
    """,
)

test_single_quotation_marks_are_silent_and_apostrophes_stay = law_from_table(
    "TX-41",
    """
    ‘Go!’ he said → go! he said. | 'Go!' he said → go! he said. | ‚Go‘ → go.
    ‘Yes,’ she said, ‘I can’t.’ → yes, she said, i can't. | He said ‘go’. → he said go.
    “‘So,’ he said.” → so, he said. | 'I don't,' he said → i don't, he said.
    the students’ books → the students' books. | the students' books → the students' books.
    James’ car and Jess’s → james' car and jess's. | rock ’n’ roll → rock 'n' roll.
    rock 'n' roll → rock 'n' roll. | ’twas late → 'twas late. | O’Hara → o'hara.
    the dogs' and cats' food → the dogs' and cats' food. | it`s → it's. | it´s → it's.
    """,
)

test_adjacent_pauses_become_the_strongest = law_from_table(
    "TX-27",
    """
    Wait... what? → wait... what? | Wait… → wait... | Hm..... → hm... | No!!! → no!
    What?! → what? | What!? → what? | a,, b → a, b. | a , b → a, b. | ...and so → ...and so.
    Well...! → well...! | Wow‼ → wow!
    """,
)

test_repeated_letters_are_reduced_except_in_roman_numerals = law_from_table(
    "TX-28",
    """
    Soooo good → soo good. | Hmmmm → hmm. | book → book. | the iii → the iii. | XVIII → xviii.
    """,
)

test_brackets_become_commas = law_from_table(
    "TX-29",
    """
    A dog (brown) ran → a dog, brown, ran. | It works (mostly), yes → it works, mostly, yes.
    See it [here]. → see it, here. | a (b (c) d) e → a, b, c, d, e. | a ) b → a b. | a ( b → a b.
    (s)he → she. | item(s) → items.
    """,
)

test_other_scripts_are_transliterated = law_from_table(
    "TX-31",
    """
    Café → cafe. | Straße → strasse. | Łódź → lodz. | Привет → privet. | 東京 → dong jing.
    ﬁne → fine. | １２ → twelve. | ٣ and ७ → three and seven. | Cafe\u0301 → cafe.
    soft\xadware → software. | Æsop → aesop. | ¿Qué? → que? | Ελλάδα → ellada.
    """,
)

test_every_line_ends_a_sentence = law_from_pairs(
    "TX-30",
    [
        ("Title\nText", "title. text."),
        ("One?\nTwo!", "one? two!"),
        ("One\n\n \nTwo", "one. two."),
        ("- milk\n* eggs", "milk. eggs."),
        *(
            (f"one{end}two{end}", "one. two.")
            for end in ("\n", "\r\n", "\r", "\v", "\f", "\x85", "\u2028", "\u2029")
        ),
    ],
)

test_every_kind_of_space_separates_words = law_from_pairs(
    "TX-30",
    [
        (f"{space}one{space * 2}two", "one two.")
        for space in " \t\xa0\u1680\u2000\u2003\u2007\u2009\u200a\u202f\u205f\u3000"
    ],
)

test_a_word_that_a_hyphen_cuts_at_a_line_end_is_joined = law_from_pairs(
    "TX-42",
    [
        ("the re-\nduced line", "the reduced line."),
        ("in-\r\nformation", "information."),
        ("hyphen-  \n  ated words", "hyphenated words."),
        ("soft\u00ad\nware", "software."),
        ("a well\u2010\nknown man", "a wellknown man."),
        ("one -\ntwo", "one. two."),
        ("The end-\nThe start", "the end-. the start."),
        ("1-\n2", "one-. two."),
    ],
)

test_integers_of_more_than_36_digits_are_read_digit_by_digit = law_from_pairs(
    "TX-04",
    [("1" + "2" * (length - 1), "one" + " two" * (length - 1) + ".") for length in (37, 50, 5000)],
)
