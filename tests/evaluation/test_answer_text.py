"""Reading other systems' answers: what is there is read, what is in doubt is not."""

import json
import string
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hkdcli.answers.text import Reading, parse_text
from hkdcli.data.records import Choice, Example

CAPTION = "Leafy greens and fresh produce on a blue wire shelf."


def make_record(task, *texts, ids=string.ascii_uppercase, text=""):
    choices = tuple(Choice(ids[place], each) for place, each in enumerate(texts))
    said = {"caption": text} if task == "hallucination" else {"claim": text}
    return Example("x", task, "i.png", "?", choices, **said)


PHRASES = make_record(
    "hallucination", "No hallucination", "leafy greens", "blue wire shelf", "fresh produce", text=CAPTION
)
CLAIM = make_record(
    "factuality", "True", "False", "Partially True", "Not Verifiable", text="The tower stands in Paris."
)


def read(text, example, parser="lenient"):
    """A reading as the tables below write it: the ids, or why there are none."""
    reading = parse_text(text, example, parser)
    assert (reading.choices is None) == (reading.how in ("refusal", "conflict", "empty", "unparsed"))
    return "".join(sorted(reading.choices)) if reading.choices is not None else reading.how


STRICT = {
    "B": ["B", "(B)", "B) ", '"B"', "b", " \tB\r\n", "B.", "\uff22", "[B]", '["B"]', "B, b", "(b)."],
    "BC": ["B, C", "B and C.", "B,C", "BC", "CB", "[B, C]", '["B","C"]', "['B', 'C']", "B;C", "B & C", "B/C"]
    + ["(B), (C)", "B\nC\n", "b and c", "\uff22\uff0c\uff23", "(BC)", "B AND C"],
    "BCD": ["B, C, and D", "BCD"],
    "AB": ["A, B"],
    "empty": ["", " \n", "[]", '""', "[" * 5000],
    "unparsed": ["\u0412", "\u0392", "B or C", "E", "B, E", "cad", "B: leafy greens", "No hallucination", "1"]
    + [
        '["B", 1]',
        '["B, C"]',
        "**B**",
        "Answer: B",
        "not B",
        "\uff22\u3001",
        "and",
        '{"B": 1}',
    ],
}


@pytest.mark.parametrize(("text", "expected"), [(text, key) for key in STRICT for text in STRICT[key]])
def test_strict_reads_ids_and_nothing_else(text, expected):
    assert read(text, PHRASES, "strict") == expected


WRAPPED = [
    ("<|im_start|>C<|im_end|>", "C"),
    ("C</s>", "C"),
    ("**B**", "B"),
    ("`B, C`", "BC"),
    ("- B\n- C", "BC"),
    ("<think>Is it B? Answer: B.</think>\nC", "C"),
    ("<think>a</think>B<think>b</think> C", "C"),
    ("<think>Perhaps the answer is B", "empty"),
    ("I looked. <answer>B</answer> or <answer>B, D</answer>", "BD"),
    ("<ANSWER> C", "C"),
    (r"So $\boxed{B}$, no, \boxed{\text{C}}.", "C"),
    (r"\boxed{B, \mathrm{D}}", "BD"),
    (r"\boxed{B", "unparsed"),
    ('```json\n{"answer": ["B", "C"]}\n```', "BC"),
    ('Here: {"Answer": "C: blue wire shelf"} Thanks', "C"),
    ('{"answers": ["leafy greens", "fresh produce"], "reason": {"A": 1}}', "BD"),
    ('{"choice": "B", "label": "leafy greens"}', "B"),
    ('{"choice": "B", "label": "C"}', "conflict"),
    ('{"answer": "B", "answer": "C"}', "conflict"),
    ('{"answer": []}', "empty"),
    ('{"answer": {"B": 1}}', "unparsed"),
    ('{"verdict": "B"}', "B"),
    ('{"reason": "B"}', "unparsed"),
]

MARKED = [
    ("It is wooden.\n\n### Final Answer\nC", "C"),
    ('The answer is "blue wire shelf" (C).', "C"),
    ('The answer is "blue wire shelf" (B).', "unparsed"),
    ("A: There is no hallucination here", "A"),
    ("The answer is (B)", "B"),
    ("The correct answer is C: blue wire shelf.", "C"),
    ("Answer: B, C", "BC"),
    ("ANSWER: C", "C"),
    ("Answer:\nB: leafy greens\nC: blue wire shelf", "BC"),
    ("Answer: B (leafy greens), D (fresh produce)", "BD"),
    ("final answer: B", "B"),
    ("**Answer:** B. leafy greens\n\n**Explanation:** There are none.", "B"),
    ("the correct options are B and C", "BC"),
    ("So the answer is BC.", "BC"),
    ("Option B", "B"),
    ("choices B and D", "BD"),
    ("Choices B and D are hallucinations.", "BD"),
    ("I think it is option B.", "B"),
    ("I would choose option B.", "B"),
    ("Option C: blue wire shelf", "C"),
    ("C. blue wire shelf", "C"),
    ("B) the greens look artificial", "B"),
    ("(B) because there are none", "B"),
    ("B: leafy greens\nC: blue wire shelf", "BC"),
    ("B: leafy greens; C: blue wire shelf", "BC"),
    ("Option B is hallucinated. Option C is hallucinated.", "BC"),
    ("The shelf is white, so the answer is C because it is white.", "C"),
    ("The answer is B, not C.", "B"),
    ("The answer is B. Wait. The answer is C.", "C"),
    ("Final answer: B. Or so. The answer is C.", "B"),
    ("Answer: A", "A"),
    ("The answer is A, B", "AB"),
    ("Option B: fresh produce", "conflict"),
    ("Answer: C. leafy greens", "conflict"),
    ("B: leafy greens\nC: fresh produce", "conflict"),
    ("The answer is not B.", "unparsed"),
    ("The answer isn't B.", "unparsed"),
    ("I don't think the answer is B.", "unparsed"),
    ("The answer is B. The answer is not B.", "unparsed"),
    ("Is it so that the answer is B?", "unparsed"),
    ("The answer is B or C.", "unparsed"),
    ("The answer is either B or C.", "unparsed"),
    ("The wrong answer is B", "unparsed"),
    ("Option B is visible in the image.", "unparsed"),
    ("(B) is visible in the image.", "unparsed"),
    ("B: visible", "unparsed"),
    ("B: this is clearly visible", "unparsed"),
    ("B: it is not a hallucination", "unparsed"),
    ("Option B is not hallucinated.", "unparsed"),
    ("Option B is visible. Option C is hallucinated.", "C"),
    ("Supported by the image: option B", "unparsed"),
    ("A. No hallucination\nB. leafy greens\nC. blue wire shelf\nD. fresh produce", "unparsed"),
    ("A blue shelf", "unparsed"),
    ("Answer: A blue shelf", "unparsed"),
    ("I think so", "unparsed"),
    ("a", "A"),
    ("A.M. is early", "unparsed"),
    ("B.Sc.", "unparsed"),
    ("Both B and C", "unparsed"),
]

WORDS = [
    ("blue wire shelf", "C"),
    ('"Blue  Wire Shelf."', "C"),
    ("leafy greens, fresh produce", "BD"),
    ("The blue wire shelf.", "C"),
    ("I think it is the blue wire shelf.", "C"),
    ("I see a kitchen. It is the blue wire shelf.", "unparsed"),
    ("The correct one is the blue wire shelf.", "unparsed"),
    ("It is right: blue wire shelf.", "unparsed"),
    ("1. leafy greens\n2. fresh produce", "BD"),
    ("The hallucination is a blue wire shelf.", "C"),
    ("The answer is leafy greens and blue wire shelf.", "BC"),
    ("The blue wire shelf is hallucinated because there is no shelf.", "C"),
    ("Hallucinated:\n- leafy greens\n- fresh produce", "BD"),
    ("No hallucination", "A"),
    ("none", "A"),
    ("None of the above.", "A"),
    ("Answer: None", "A"),
    ("There is no hallucination.", "A"),
    ("There are no hallucinations in the caption.", "A"),
    ("no hallucination except leafy greens", "unparsed"),
    ("It is not true that there is no hallucination.", "unparsed"),
    ("not hallucinated: blue wire shelf", "unparsed"),
    ("Not hallucinated:\n- blue wire shelf", "unparsed"),
    ("The blue wire shelf is not hallucinated.", "unparsed"),
    ("Neither leafy greens nor fresh produce", "unparsed"),
    ("None of leafy greens", "unparsed"),
    ("The blue wire shelf is visible.", "unparsed"),
    ("There is a blue wire shelf.", "unparsed"),
    ("blue wire bookshelf", "unparsed"),
    ("leafy greens-like", "unparsed"),
    (CAPTION, "unparsed"),
    ("No hallucination, leafy greens, blue wire shelf, fresh produce", "unparsed"),
    ("I'm sorry, but I can't help with that.", "refusal"),
    ("I cannot determine which option is hallucinated.", "refusal"),
    ("As an AI, I do not see.", "refusal"),
    ("Unable to answer: no image was provided", "refusal"),
    ("I'm sorry for the delay. The answer is B.", "B"),
    ("banana", "unparsed"),
]

LABELS = [
    ("False. The claim is not true, since it is red.", "B"),
    ("True.\n\nExplanation: false statements are left out.", "A"),
    ("True. But it is red. Therefore, the claim is false.", "unparsed"),
    ("True", "A"),
    ("FALSE.", "B"),
    ("partially true", "C"),
    ("Not Verifiable", "D"),
    ("The claim is not verifiable.", "D"),
    ("I cannot determine more, so the answer is D.", "D"),
    ("The claim is false.", "B"),
    ("It is partially true, because the year is wrong.", "C"),
    ("I think the claim is true.", "A"),
    ("The statement is True, as the tower is in Paris.", "A"),
    ('The claim "The tower stands in Paris." is false.', "B"),
    ("Verdict: Not Verifiable", "D"),
    ("Final verdict: False", "B"),
    ("True or false? False.", "B"),
    ('{"answer": true}', "A"),
    ('{"label": "Partially True", "explanation": "not A"}', "C"),
    ("B. False", "B"),
    ("The answer is B (False).", "B"),
    ("Option A is correct.", "A"),
    ("A: False", "conflict"),
    ("The answer is (A) False", "conflict"),
    ("Option A is False", "unparsed"),
    ("The claim is not true.", "unparsed"),
    ("The claim isn't False", "unparsed"),
    ("The claim is false, not true.", "B"),
    ("The claim is True. The claim is False.", "unparsed"),
    ("True, False, Partially True, Not Verifiable", "unparsed"),
    ("True or False?", "unparsed"),
    ("mostly true", "unparsed"),
    ("It would be true if it were red.", "unparsed"),
    ("This is a true color photograph.", "unparsed"),
    ("untrue", "unparsed"),
    ("The tower stands in Paris.", "unparsed"),
    ("none of the above", "unparsed"),
    ("I cannot determine whether the claim is true.", "refusal"),
]


SPOKEN_ABOUT = [
    ("Answer:\nA: No\nB: No\nC: Yes\nD: No", "unparsed"),
    ("Answer:\n- B: correct\n- C: hallucination\n- D: correct", "C"),
    ("Answer:\n- B: the greens are visible\n- C: the shelf is white", "unparsed"),
    ("Answer: B (no), C (yes), D (no)", "unparsed"),
    ("Answer: B - not hallucinated", "unparsed"),
    ("Answer: B = 0.1, C = 0.9", "unparsed"),
    ("Answer: B \u2705 C \u274c", "unparsed"),
    ("Answer: B is visible in the image.", "unparsed"),
    ("Answer: B (leafy greens) is not hallucinated", "unparsed"),
    ("Final answer: B is accurate, C is hallucinated.", "C"),
    ("Conclusion: B and D match the image, C does not.", "C"),
    ("Conclusion: leafy greens are visible.", "unparsed"),
    ("Answer: The blue wire shelf is not hallucinated, the leafy greens are.", "B"),
    ("Answer: C; B is visible", "unparsed"),
    ("The visible options: B, D", "unparsed"),
    ("Remaining options: C, D", "unparsed"),
    ("The options free of hallucination: B, D", "unparsed"),
    ("Hallucination score: B 0.1, C 0.9", "unparsed"),
    ("If there is no hallucination, the answer is A.", "unparsed"),
    ("Hallucinated choices: C. Correct choices: B and D.", "C"),
    ("The hallucinated choices are C. The correct choices are B and D.", "C"),
    ("Correct choices: B, D. Hallucinated choices: C", "C"),
    ("Hallucinated options: B. Final answer: C", "C"),
    ("Answer: C is hallucinated.", "C"),
    ("Answer: B and C are hallucinations", "BC"),
    ("Answer: C (not B)", "C"),
    ("Answer: C (the shelf is white)", "C"),
    ("Answer: C - the shelf is not visible", "C"),
    ("Answer: C: the shelf is white.", "C"),
    ("Answer: A - all of these are visible", "A"),
    ("The hallucination is the blue wire shelf, since the greens are visible.", "C"),
]

LABELS_SPOKEN_ABOUT = [
    ("Answer: True is wrong.", "unparsed"),
    ("Answer: A is wrong", "unparsed"),
    ("Answer: True, partially", "unparsed"),
    ("Answer: A (partially)", "unparsed"),
    ("The claim is true, but only partially.", "unparsed"),
    ("The claim is true (partially).", "unparsed"),
    ("True. However, it is only partially true.", "unparsed"),
    ("The opposite of the claim is true.", "unparsed"),
    ("There is insufficient evidence that the claim is true.", "unparsed"),
    ("The evidence is insufficient to conclude that the claim is false.", "unparsed"),
    ("The image lacks evidence that the claim is true.", "unparsed"),
    ("For the claim to be true, there would have to be a bus.", "unparsed"),
    ("If the image shows a bus, the answer is True.", "unparsed"),
    ("Answer: A is correct", "A"),
    ("Answer: D (cannot be verified)", "D"),
    ("Answer: B - not supported by the context", "B"),
    ("The claim is false; there is little light.", "B"),
]


@pytest.mark.parametrize(("text", "expected"), SPOKEN_ABOUT)
def test_a_judgement_of_a_choice_is_not_taken_for_the_answer(text, expected):
    assert read(text, PHRASES) == expected


@pytest.mark.parametrize(("text", "expected"), LABELS_SPOKEN_ABOUT)
def test_a_judgement_of_a_label_is_not_taken_for_the_answer(text, expected):
    assert read(text, CLAIM) == expected


def test_how_many_hallucinations_there_are_is_no_id():
    record = make_record("hallucination", "a man", "a red bike", "two dogs", ids="123")
    assert read("Number of hallucinations: 2", record) == "unparsed"
    assert read("Hallucinations: 2", record) == "2"


@pytest.mark.parametrize(("text", "expected"), [*WRAPPED, *MARKED, *WORDS])
def test_lenient_reads_phrases(text, expected):
    assert read(text, PHRASES) == expected


@pytest.mark.parametrize(("text", "expected"), LABELS)
def test_lenient_reads_labels(text, expected):
    assert read(text, CLAIM) == expected


@pytest.mark.parametrize(
    ("text", "how"),
    [
        *[("B", "ids"), ("**B**", "ids"), ("Option B", "marked"), ("The answer is B", "marked")],
        *[("leafy greens", "words"), ("The answer is leafy greens", "words"), ("I can't say", "refusal")],
        *[("Option B: fresh produce", "conflict"), (" ", "empty"), ("banana", "unparsed")],
    ],
)
def test_a_reading_says_what_it_was_read_from(text, how):
    assert parse_text(text, PHRASES, "lenient").how == how


def test_a_small_letter_is_an_id_only_where_none_differs_by_case_alone():
    assert read("b", make_record("hallucination", "x", "y", ids="Bb"), "strict") == "b"
    assert read("a", make_record("hallucination", "x", "y", "z", ids="Aab"), "strict") == "a"
    record = make_record("hallucination", "x", "y", "z", ids=["Ab", "aB", "c"])
    assert read("AB", record, "strict") == "unparsed"
    assert read("C", record, "strict") == "c"


def test_ids_that_are_the_words_of_another_choice_are_a_conflict():
    numbers = make_record("hallucination", "3", "2", "1", ids="123")
    assert [read(each, numbers, "strict") for each in "123"] == ["conflict", "2", "conflict"]
    assert read("BED", make_record("hallucination", "a", "b", "c", "d", "e", "bed"), "strict") == "conflict"
    assert read("True", make_record("factuality", "True", "No", ids=["True", "False"]), "strict") == "True"


def test_a_number_of_prose_is_no_id():
    record = make_record("hallucination", "No hallucination", "leafy greens", "blue wire shelf", ids="123")
    assert read("The answer is 2 of these.", record) == "unparsed"
    assert read("The answer is 2.", record) == "2"
    assert read("1. leafy greens\n2. blue wire shelf", record) == "conflict"


def test_words_that_two_choices_share_are_not_read():
    record = make_record("hallucination", "red mat", "Red Mat", "cat")
    assert read("red mat", record) == "unparsed"
    assert read("B. red mat", record) == "B"


def test_none_of_the_above_needs_a_choice_that_says_so():
    assert read("none", make_record("hallucination", "a cat", "a dog")) == "unparsed"


def test_the_longest_words_are_read_first():
    record = make_record("hallucination", "No hallucination", "shelf", "wire shelf", "cat")
    assert read("wire shelf", record) == "C"
    assert read("shelf, wire shelf", record) == "BC"


def test_a_choice_may_hold_words_that_deny():
    record = make_record("hallucination", "No hallucination", "man without hat", "man", "hat")
    assert read("The man without hat is hallucinated.", record) == "B"


IDS = st.sampled_from([string.ascii_uppercase, string.digits[1:], string.ascii_lowercase])
WORD_LIST = ["No hallucination", "red mat", "two cats", "a dog", "tall tree", "green car"]
SEPARATORS = [", ", ",", "; ", ";", " and ", " & ", "/", " ", "\n", " + ", " AND ", "|"]


@given(data=st.data())
def test_law_any_rendering_of_ids_reads_back(data):
    record = make_record("hallucination", *WORD_LIST, ids=data.draw(IDS))
    chosen = data.draw(
        st.lists(st.sampled_from([each.id for each in record.choices]), min_size=1, unique=True)
    )
    dressed = data.draw(st.sampled_from(["{}", "({})", "[{}]", '"{}"', "{})"]))
    whole = data.draw(st.sampled_from(["{}", " {}\n", "{}.", "[{}]", "({})"]))
    text = whole.format(data.draw(st.sampled_from(SEPARATORS)).join(map(dressed.format, chosen)))
    for parser in ("strict", "lenient"):
        assert parse_text(text, record, parser) == Reading(frozenset(chosen), "ids"), text
    assert parse_text(json.dumps(chosen), record, "strict") == Reading(frozenset(chosen), "ids")


@given(data=st.data())
def test_law_a_list_of_ids_and_their_words_reads_back(data):
    record = make_record("hallucination", *WORD_LIST)
    chosen = data.draw(st.lists(st.sampled_from(record.choices), min_size=1, max_size=5, unique=True))
    form = data.draw(
        st.sampled_from(["{}: {}", "{}. {}", "({}) {}", "{}) {}", "Option {}: {}", "- **{}**: {}"])
    )
    opening = data.draw(
        st.sampled_from(["", "Answer:\n", "The hallucinated phrases are:\n", "Final answer: "])
    )
    text = opening + "\n".join(form.format(each.id, each.text) for each in chosen)
    ids = frozenset(each.id for each in chosen)
    assert parse_text(text, record, "lenient") == Reading(ids, "marked"), text


PIECES = ["B", "C", "a", "(A)", "answer", "The", "is", ":", ".", "\n", "not", "or", "and", "Option", "D."]
PIECES += ["leafy greens", "blue wire shelf", "hallucinated", "true", "False", "</think>", "<answer>"]
TEXTS = st.text(st.characters(exclude_categories=()), max_size=60) | st.lists(
    st.sampled_from(PIECES), max_size=12
).map(" ".join)


@given(text=TEXTS, example=st.sampled_from([PHRASES, CLAIM]))
def test_law_whatever_the_text_ids_of_the_record_or_none(text, example):
    strict, lenient = parse_text(text, example, "strict"), parse_text(text, example, "lenient")
    for reading in (strict, lenient):
        assert reading.choices is None or reading.choices
        assert (reading.choices or frozenset()) <= {choice.id for choice in example.choices}
        assert (reading.choices is None) == (reading.how in ("refusal", "conflict", "empty", "unparsed"))
    assert strict.choices is None or lenient == strict


@given(text=TEXTS, order=st.permutations(range(4)), example=st.sampled_from([PHRASES, CLAIM]))
def test_law_the_order_of_the_choices_does_not_matter(text, order, example):
    turned = replace(example, choices=tuple(example.choices[place] for place in order))
    for parser in ("strict", "lenient"):
        assert parse_text(text, turned, parser) == parse_text(text, example, parser)


SIZE = 1_000_000
UNITS = ["B", " ", "B, ", "[", "{", "answer is ", "Answer: B\n", "option b x ", "_", "a-", '"', "\\boxed{"]
UNITS += ["</think>", "true ", "not ", "\ufdfa", "\0", '{"answer":', "B. ", "# ", "\ud800", "1", "A\n", "(B"]
UNITS += ["leafy greens; ", "is true, ", "hallucinated ", "\n- ", "option B is hallucinated. ", "```\n"]
UNITS += ["B: leafy greens\n", "<answer>", "n't ", "\\text{", "leafy greens, ", "', B", "\nuser:", "so B, "]
UNITS += ["?", "the claim that it is ", "claim 'it' is true ", "A and ", "B is, "]
HUGE = [unit * (SIZE // len(unit)) + end for unit in UNITS for end in ("", " true", "\nx y")]
HUGE += [unit * (20_000 // len(unit)) + end for unit in UNITS for end in ("", " true", "\nx y")]
HUGE.append("answer " + "a" * SIZE)


@pytest.mark.parametrize("text", HUGE, ids=range(len(HUGE)))
def test_huge_and_hostile_texts_end(text):
    for example in (PHRASES, CLAIM):
        for parser in ("strict", "lenient"):
            parse_text(text, example, parser)


def test_of_a_long_text_the_beginning_and_the_end_are_read():
    filler = "The image shows a kitchen. " * 40_000
    assert read(f"{filler}\nFinal answer: B", PHRASES) == "B"
    assert read(f"Final answer: B\n{filler}", PHRASES) == "B"
    assert read(f"{filler}\nFinal answer: B\n{filler}", PHRASES) == "unparsed"
    assert read(f"{filler}</think>C", PHRASES) == "C"
    assert (
        read(f"{filler}\nThe blue wire shelf is hallucinated.", PHRASES) == "unparsed"
    )  # no marks, not whole
