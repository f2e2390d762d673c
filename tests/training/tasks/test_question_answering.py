import gzip
import json
import unicodedata
from pathlib import Path

import datasets
import numpy as np
import pytest

from tests.conftest import DATA
from training.metrics.question_answering import score_answers
from training.recipe.fields import DataFields, TrainingFields
from training.tasks.question_answering import (
    Question,
    QuestionAnswering,
    answerless,
    encode_questions,
    find_answers,
    locate_answer,
    read_squad,
)
from vanilla_transformer.errors import RecipeError, TextError


def squad_file(folder, *entries, context="The red car is new. The house is old."):
    path = folder / "questions.json"
    qas = [{"id": str(i), "question": question, "answers": answers} for i, (question, answers) in enumerate(entries)]
    path.write_text(json.dumps({"data": [{"paragraphs": [{"context": context, "qas": qas}]}]}), encoding="utf-8")
    return path


def oracle(windows):
    """Logits that are 1 at the labels and 0 elsewhere."""
    starts, ends = [], []
    for window in windows:
        for name, found in (("start_positions", starts), ("end_positions", ends)):
            found.append(np.zeros(len(window["input_ids"])))
            found[-1][window[name]] = 1
    return starts, ends


def test_questions_are_read_and_wrong_spans_counted(tmp_path):
    path = squad_file(
        tmp_path,
        ("What is new?", [{"text": "The red car", "answer_start": 0}, {"text": "red car", "answer_start": 3}]),
        ("What is old?", [{"text": "house", "answer_start": 400}]),
        ("What is blue?", []),
        ("What is blank?", [{"text": " ", "answer_start": 3}]),
    )
    found = read_squad(path)
    assert found.questions[0] == Question(
        "0", "What is new?", "The red car is new. The house is old.", [("The red car", 0)]
    )
    assert len(found) == 1 and found.misplaced == 3
    assert dict(found.dropped) == {"whose answers are not where the file says": 2, "without an answer": 1}


def with_cells(name='"q7"', question='"b"', context='"a b"', text='"a"', start="0"):
    answer = f'{{"text": {text}, "answer_start": {start}}}'
    entry = f'{{"id": {name}, "question": {question}, "answers": [{answer}]}}'
    return f'{{"data": [{{"paragraphs": [{{"context": {context}, "qas": [{entry}]}}]}}]}}'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "not in the form of SQuAD"),
        ('{"data": []}', "has no question to learn: it has none"),
        ('{"data": [{"paragraphs": [{"context": "a", "qas": [{"id": "1"}]}]}]}', "not in the form of SQuAD.*question"),
        (
            '{"data": [{"paragraphs": [{"context": "a", "qas": [{"id": "q7", "question": "b", "answers": 3}]}]}]}',
            "not in the form of SQuAD with the question 'q7'",
        ),
        (with_cells(text="null"), "q7': `text` must be text, but is null"),
        (with_cells(text="5"), "`text` must be text, but is the number 5"),
        (with_cells(start="10.7"), "`answer_start` must be a whole number, but is the number 10.7"),
        (with_cells(name="null"), "`id` must be text or a whole number, but is null"),
        (with_cells(question="null"), "`question` must be text, but is null"),
        (with_cells(context="[1]"), r"`context` must be text, but is the list \[1\]"),
    ],
)
def test_files_of_another_form_are_refused(tmp_path, content, message):
    path = tmp_path / "q.json"
    path.write_text(content)
    with pytest.raises(RecipeError, match=message):
        read_squad(path)
    with pytest.raises(TextError, match="cannot be read"):
        read_squad(tmp_path / "absent.json")


@pytest.mark.parametrize("column", ["id", "question", "context"])
def test_cells_of_a_data_set_without_text_are_refused(column):
    row = {"id": "q", "question": "What?", "context": "a b", "answers": {"text": ["a"], "answer_start": [0]}}
    dataset = datasets.Dataset.from_list([{**row, column: None}])
    task = QuestionAnswering(DataFields(), TrainingFields())
    with pytest.raises(RecipeError, match=f"squad, row 1: `{column}` must be text.*but is null"):
        task.read_dataset(dataset, "squad")


def test_a_packed_file_and_a_byte_order_mark_are_read(tmp_path):
    path = Path(squad_file(tmp_path, ("What is new?", [{"text": "The red car", "answer_start": 0}])))
    expected = read_squad(path).questions
    marked, packed = tmp_path / "marked.json", tmp_path / "q.json.gz"
    marked.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read_squad(marked).questions == read_squad(packed).questions == expected


def test_two_questions_of_one_id_are_refused(tmp_path):
    path = tmp_path / "q.json"
    entry = {"id": "7", "question": "What?", "answers": []}
    path.write_text(json.dumps({"data": [{"paragraphs": [{"context": "a", "qas": [entry, entry]}]}]}))
    with pytest.raises(RecipeError, match=r"q\.json has two questions with the id '7'"):
        read_squad(path)


def test_windows_overlap_and_hold_the_whole_context(tokenizer):
    context = " ".join(f"the red car is new {i}" for i in range(40))
    answer = "car is new 39"
    question = Question("q", "the house?", context, [(answer, context.index(answer))])
    windows = encode_questions([question], tokenizer, max_length=60, stride=20)
    assert len(windows) > 5 and max(windows["source_length"]) == 60
    ids = tokenizer(question.text).input_ids
    seen = set()
    for window in windows:
        assert window["input_ids"][: len(ids)] == ids and window["input_ids"][-1] == 2
        for token, (low, high) in zip(window["input_ids"], window["offsets"], strict=True):
            if low >= 0:
                seen |= set(range(low, high))
                assert tokenizer.decode([token]).removeprefix(" ") == context[low:high]
    assert seen == {position for position, character in enumerate(context) if character != " "}
    # Only the last window holds the answer; the others point at the end of the question.
    inside = [window["offsets"][window["start_positions"]][0] >= 0 for window in windows]
    assert inside == [False] * (len(windows) - 1) + [True]
    assert all(w["start_positions"] == w["end_positions"] == len(ids) - 1 for w in list(windows)[:-1])
    assert find_answers(windows, *oracle(windows)) == {"q": answer}
    assert answerless(windows) == []


@pytest.mark.parametrize("answer", ["car", " car", "car ", " red car is", "\nold"])
def test_space_around_an_answer_does_not_move_it(tokenizer, answer):
    context = "the red car is new\nold"
    windows = encode_questions([Question("q", "the?", context, [(answer, context.index(answer))])], tokenizer, 40, 10)
    assert answerless(windows) == []
    assert find_answers(windows, *oracle(windows)) == {"q": answer.strip()}


ACCENTED = "Él está aquí; Tiếng Việt, 한국어 문장, \u212bngström, baño y ca\ufb01é."


def answered(tokenizer, folder, context, answers):
    """The windows of questions in a file, what oracle logits answer, and the scores."""
    entries = [("¿Qué?", [{"text": text, "answer_start": start}]) for text, start in answers]
    questions = read_squad(squad_file(folder, *entries, context=context)).questions
    windows = encode_questions(questions, tokenizer, max_length=200, stride=20)
    found = find_answers(windows, *oracle(windows), max_answer_length=200)
    return windows, found, score_answers(found, {each.id: [text for text, _ in each.answers] for each in questions})


@pytest.mark.parametrize("form", ["NFC", "NFD", None])
def test_a_file_in_any_form_of_unicode_is_learned_and_scored_as_nfc(tokenizer, tmp_path, form):
    composed = unicodedata.normalize("NFC", ACCENTED)
    parts = ["está", "Tiếng Việt", "한국어", composed.split(", ")[2], "baño", "\ufb01é", "aquí"]
    expected, _, _ = answered(tokenizer, tmp_path, composed, [(part, composed.index(part)) for part in parts])
    context = unicodedata.normalize(form, ACCENTED) if form else ACCENTED
    written = [unicodedata.normalize(form, part) if form else part for part in parts]
    if not form:
        written[3] = "\u212bngström"
    windows, found, scores = answered(tokenizer, tmp_path, context, [(part, context.index(part)) for part in written])
    for name in ("input_ids", "start_positions", "end_positions", "source_length"):
        assert windows[name][:] == expected[name][:]
    assert answerless(windows) == []
    assert list(found.values()) == written and all(answer in context for answer in found.values())
    assert scores["exact_match"] == scores["f1"] == 100


@pytest.mark.parametrize("context_form", ["NFC", "NFD"])
@pytest.mark.parametrize("answer_form", ["NFC", "NFD"])
@pytest.mark.parametrize("count_form", ["NFC", "NFD"])
def test_an_answer_in_another_form_than_its_context_is_found(tmp_path, context_form, answer_form, count_form):
    context, answer, before = "Él está aquí, té.", "aquí", "Él está "
    written, found = unicodedata.normalize(context_form, context), unicodedata.normalize(context_form, answer)
    start = len(unicodedata.normalize(count_form, before))
    place = (found, len(unicodedata.normalize(context_form, before)))
    entry = {"text": unicodedata.normalize(answer_form, answer), "answer_start": start}
    read = read_squad(squad_file(tmp_path, ("¿Dónde?", [entry]), context=written))
    assert read.questions[0].answers == [place] and not read.misplaced
    assert locate_answer(written, unicodedata.normalize(answer_form, "allí"), start) is None
    assert locate_answer(written, unicodedata.normalize(answer_form, answer), start + 3) is None
    assert locate_answer(written, unicodedata.normalize(answer_form, answer), -1) is None


def test_an_answer_longer_than_every_overlap_can_be_in_no_window(tokenizer):
    context = " ".join(f"the red car is new {i}" for i in range(40))
    question = Question("q", "the house?", context, [(context[100:500], 100)])
    windows = encode_questions([question], tokenizer, max_length=60, stride=20)
    assert answerless(windows) == ["q"]


def test_a_question_that_leaves_no_room_is_left_out(tokenizer):
    question = Question("q", "the house is red " * 20, "the house", [("house", 4)])
    assert not len(encode_questions([question], tokenizer, max_length=60, stride=20))


def test_windows_are_compared_by_what_they_say_of_elsewhere(tokenizer):
    context = "the red car is new " * 20
    question = Question("q", "the?", context, [("the", 0)])
    windows = encode_questions([question], tokenizer, max_length=40, stride=10)
    starts = [np.zeros(len(window["input_ids"])) for window in windows]
    ends = [array.copy() for array in starts]
    first = len(tokenizer("the?").input_ids)
    second = next(i for i in range(first, 40) if context[slice(*windows[1]["offsets"][i])].strip())
    starts[0][first], ends[0][first], starts[0][first - 1] = 5, 5, 9  # high, but elsewhere is higher
    starts[1][second], ends[1][second] = 3, 3
    low, high = windows[1]["offsets"][second]
    assert find_answers(windows, starts, ends) == {"q": context[low:high].strip()}


def test_the_right_labels_answer_squad(tokenizer):
    """With the labels for logits, windows lose nothing but answers that end in the middle of a token."""
    questions = read_squad(DATA / "squad.json").questions
    assert len(questions) > 20
    windows = encode_questions(questions, tokenizer, max_length=384, stride=128)
    answers = find_answers(windows, *oracle(windows), max_answer_length=200)
    results = score_answers(answers, {each.id: [text for text, _ in each.answers] for each in questions})
    assert results["exact_match"] > 99 and results["unanswered"] == 0
    assert answerless(windows) == []
