import pytest

from training.recipe.fields import DataFields
from training.tasks.language_modeling import CausalLanguageModeling, encode_blocks, read_texts
from vanilla_transformer.errors import RecipeError, TextError


def test_lines_are_texts_and_turns_are_told_apart(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("Hello.\tHi!\t\n\n  \nHow are you?\n", encoding="utf-8")
    assert read_texts(str(path)).turns == ["Hello.\tHi!", "How are you?"]
    dialogues = read_texts(str(path), "\t")
    assert dialogues.turns == ["Hello.", "Hi!", "How are you?"] and dialogues.dropped == {"that are blank": 2}
    with pytest.raises(RecipeError, match="`turn_separator` must be what is between turns, but is empty"):
        read_texts(str(path), "")
    path.write_text("\t\n \nx\n")
    with pytest.raises(
        RecipeError, match=r"`turn_separator` must be in .*t\.txt, but is '\\\\t', which is not\. A tab"
    ):
        read_texts(str(path), "\\t")  # a backslash and a t, as a shell gives it
    with pytest.raises(RecipeError, match=r"t\.txt has no text: every line is blank"):
        read_texts(str(path), "x")


def test_files_in_another_format_are_refused(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text('<doc id="1" title="A">\nHello.\n</doc>\n')
    with pytest.raises(TextError, match=r"t\.txt is SGML, not plain text"):
        read_texts(str(path))


def test_blocks_hold_every_token_in_order(tokenizer):
    texts = ["the house is red", "the red car", "the red car is new"] * 30
    whole = [token for text in texts for token in tokenizer(text).input_ids]
    blocks = encode_blocks(texts, tokenizer, 16, drop_short=False)
    assert [token for ids in blocks["input_ids"] for token in ids] == whole
    assert set(blocks["source_length"][:-1]) == {16} and whole.count(2) == 90
    trained = encode_blocks(texts, tokenizer, 16)
    assert set(trained["source_length"]) == {16} and len(trained) == len(whole) // 16
    assert blocks["row"] == list(range(len(blocks)))


def test_a_text_shorter_than_a_block_is_one(tokenizer):
    assert encode_blocks(["the house"], tokenizer, 1000)["source_length"][0] > 2


def test_cells_that_are_not_text_are_told_by_their_kind_and_missing_ones_counted(tmp_path):
    path = tmp_path / "t.jsonl"
    task = CausalLanguageModeling(DataFields(), None)
    path.write_text('{"text": "Hello."}\n{"text": NaN}\n{"text": null}\n{"text": ["Hi!", "Bye."]}\n')
    text = task.read_file(str(path))
    assert text.turns == ["Hello.", "Hi!", "Bye."] and text.dropped == {"that are blank": 2}
    for cell, named in (("3", "the number 3"), ("[1, 2]", r"the list \[1, 2\]")):
        path.write_text(f'{{"text": {cell}}}\n')
        with pytest.raises(RecipeError, match=f"line 1 has no text under 'text', but {named}"):
            task.read_file(str(path))
