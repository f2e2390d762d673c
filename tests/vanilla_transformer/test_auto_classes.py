import json

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM, AutoTokenizer

from vanilla_transformer import (
    VanillaTransformerConfig,
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerModel,
)
from vanilla_transformer.configuration_vanilla_transformer import AUTO_MAP


def test_auto_classes_load_the_packages_own(model_folder):
    assert type(AutoConfig.from_pretrained(model_folder)) is VanillaTransformerConfig
    assert type(AutoModel.from_pretrained(model_folder)) is VanillaTransformerModel
    model, info = AutoModelForSeq2SeqLM.from_pretrained(model_folder, output_loading_info=True)
    assert type(model) is VanillaTransformerForConditionalGeneration
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert model.dtype == torch.float32


def test_a_folder_carries_its_code(model_folder, fresh_python):
    """
    Every Auto class, in a process where the package cannot be imported. What is trained and saved there loads again.
    """
    again = model_folder.parent / "again"
    code = f"""
import torch
from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM, AutoTokenizer
for folder in ({str(model_folder)!r}, {str(again)!r}):
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, trust_remote_code=True)
    assert AutoModel.from_pretrained(folder, trust_remote_code=True).config.hidden_size == config.hidden_size
    inputs = tokenizer(["the house", "the red car is new"], return_tensors="pt", padding=True)
    print(type(model).__module__.split(".")[0], model.generate(**inputs).tolist())
    if folder != {str(again)!r}:
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        labels = tokenizer(text_target=["la casa", "el coche"], return_tensors="pt", padding=True).input_ids
        model.train()(**inputs, labels=labels.masked_fill(labels == 1, -100)).loss.backward()
        optimizer.step()
        print(model.eval().generate(**inputs).tolist())
        model.save_pretrained({str(again)!r})
        tokenizer.save_pretrained({str(again)!r})
"""
    first, trained, second = fresh_python(code, installed=False).splitlines()
    assert second.split(" ", 1)[1] == trained and trained not in first
    assert first.startswith("transformers_modules") and second.startswith("transformers_modules")
    model = AutoModelForSeq2SeqLM.from_pretrained(model_folder)
    inputs = AutoTokenizer.from_pretrained(model_folder)(
        ["the house", "the red car is new"], return_tensors="pt", padding=True
    )
    assert first.split(" ", 1)[1] == str(model.generate(**inputs).tolist())
    names = {path.name for path in again.glob("*.py")}
    assert names == {path.name for path in model_folder.glob("*.py")}
    assert names == {
        f"{part}_vanilla_transformer.py"
        for part in ("configuration", "generation", "kernels", "modeling", "pipeline", "tokenization")
    }


@pytest.mark.slow
def test_an_older_transformers_gets_one_line(fresh_python):
    code = """
import transformers
transformers.__version__ = "5.3.0"
try:
    import vanilla_transformer
except ImportError as error:
    print(error)
"""
    assert "needs transformers>=5.17,<5.25, but transformers 5.3.0 is installed" in fresh_python(code)


def test_with_the_package_imported_the_code_in_a_folder_is_not_run(model_folder):
    """A folder that an earlier version wrote keeps translating, whatever became of the code that lies in it."""
    inputs = AutoTokenizer.from_pretrained(model_folder)(["the red car is new"], return_tensors="pt")
    expected = AutoModelForSeq2SeqLM.from_pretrained(model_folder).generate(**inputs)
    for path in model_folder.glob("*.py"):
        path.write_text("raise RuntimeError('old code')", encoding="utf-8")
    for trust in (None, True):
        model = AutoModelForSeq2SeqLM.from_pretrained(model_folder, trust_remote_code=trust)
        assert torch.equal(model.generate(**inputs), expected)


@pytest.mark.slow
def test_the_folder_of_an_earlier_version_loads_and_is_saved_with_the_names_of_files_that_are_there(
    model_folder, fresh_python
):
    """Earlier versions had the heads in a file of their own."""
    path = model_folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    heads = [name for name in config["auto_map"] if name not in ("AutoConfig", "AutoModel", "AutoModelForSeq2SeqLM")]
    for name in heads:
        config["auto_map"][name] = config["auto_map"][name].replace("modeling_", "modeling_heads_")
    config["auto_map"]["AutoModelForTextToWaveform"] = "own_code.OwnModel"
    path.write_text(json.dumps(config), encoding="utf-8")
    again = model_folder.parent / "again"
    model = AutoModelForSeq2SeqLM.from_pretrained(model_folder)
    model.save_pretrained(again)
    saved = json.loads((again / "config.json").read_text(encoding="utf-8"))["auto_map"]
    assert saved == {**AUTO_MAP, "AutoModelForTextToWaveform": "own_code.OwnModel"}
    assert all((again / f"{reference.partition('.')[0]}.py").is_file() for reference in AUTO_MAP.values())
    code = f"""
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM
for auto_class in (AutoModelForCausalLM, AutoModelForMaskedLM):
    print(type(auto_class.from_pretrained({str(again)!r}, trust_remote_code=True)).__name__)
"""
    expected = ["VanillaTransformerForCausalLM", "VanillaTransformerForMaskedLM"]
    assert fresh_python(code, installed=False).split() == expected
