import base64
import json
import re

import numpy as np
import pytest
import torch

from vanilla_transformer import VanillaTransformerConfig, VanillaTransformerForConditionalGeneration
from vanilla_transformer.cli import main
from vanilla_transformer.explain import explain
from vanilla_transformer.loading import load_model


def read_numbers(page):
    return json.loads(re.search(r'<script type="application/json" id="numbers">(.*?)</script>', page, re.S)[1])


def unpack(packed):
    numbers = np.frombuffer(base64.b64decode(packed["numbers"]), dtype="<f2").astype("f4")
    return torch.from_numpy(numbers.reshape(packed["shape"]).copy())


def test_the_page_holds_the_numbers_of_the_run(model_folder):
    model, tokenizer = load_model(model_folder)
    explanation = explain(model, tokenizer, "the house")
    numbers = read_numbers(explanation.to_html())
    for name in ("encoder", "decoder"):
        stack, packed = getattr(explanation, name), numbers[name]
        torch.testing.assert_close(unpack(packed["input"]), stack.input, rtol=1e-3, atol=1e-3)
        for layer, each in zip(stack.layers, packed["layers"], strict=True):
            weights = layer.self_attention.attention.weights
            torch.testing.assert_close(unpack(each["self"]["attention"]["weights"]), weights, rtol=1e-3, atol=1e-3)
    kept = [[each["tokens"] for each in step if each["kept"]] for step in numbers["beams"]]
    ids = [[each.ids for each in step if each.is_kept] for step in explanation.beams]
    assert [[len(each) for each in step] for step in kept] == [[len(each) for each in step] for step in ids]


def test_the_page_needs_no_network(model_folder):
    model, tokenizer = load_model(model_folder)
    page = explain(model, tokenizer, "the house").to_html()
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert "default-src 'none'" in page and "://" not in page and "@import" not in page


def test_a_text_cannot_end_the_script(model_folder):
    model, tokenizer = load_model(model_folder)
    page = explain(model, tokenizer, "</script><b>").to_html()
    assert page.count("</script>") == 2
    assert read_numbers(page)["text"] == "</script><b>"


@pytest.mark.slow
def test_ten_tokens_of_the_base_model_fit_in_three_megabytes(tokenizer):
    config = VanillaTransformerConfig.from_preset("base", vocab_size=len(tokenizer))
    model = VanillaTransformerForConditionalGeneration(config).eval()
    text = tokenizer.decode(tokenizer("the red car is new el coche rojo").input_ids[:9])
    explanation = explain(model, tokenizer, text, translation=text)
    assert len(explanation.source_tokens) == len(explanation.target_tokens) == 10
    assert len(explanation.to_html().encode()) < 3e6


def test_the_command_writes_the_page(model_folder, tmp_path, capsys):
    output = tmp_path / "page.html"
    assert main(["explain", "the house", "--model", str(model_folder), "--output", str(output)]) == 0
    assert "the house →" in capsys.readouterr().out
    assert read_numbers(output.read_text(encoding="utf-8"))["text"] == "the house"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [([""], "The text must be a sentence"), (["the house", "--output", "/nowhere/page.html"], "cannot be written")],
)
def test_arguments_that_cannot_be_are_a_line(model_folder, capsys, arguments, said):
    assert main(["explain", *arguments, "--model", str(model_folder)]) == 2
    assert said in capsys.readouterr().err
