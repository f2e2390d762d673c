"""A pushed model, loaded by those who have only transformers; each in a process of its own."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM

from tests.hub.server import HubServer
from vanilla_transformer.configuration_vanilla_transformer import AUTO_MAP
from vanilla_transformer.conversion.marian import to_marian
from vanilla_transformer.loading import load_model

TEXTS = ["How are you?", "", "The house is red.", "Where is the boat?"]
CODE = {
    "configuration_vanilla_transformer.py",
    "generation_vanilla_transformer.py",
    "kernels_vanilla_transformer.py",
    "modeling_vanilla_transformer.py",
    "pipeline_vanilla_transformer.py",
    "tokenization_vanilla_transformer.py",
}


def translate(folder: Path) -> list[str]:
    """Translate the texts by the installed package."""
    model, tokenizer = load_model(folder)
    return [
        tokenizer.decode(model.generate(**tokenizer(text, return_tensors="pt"))[0], skip_special_tokens=True)
        for text in TEXTS
        if text
    ]


@pytest.mark.slow
def test_every_auto_class_loads_the_same_tensors_and_translates_the_same(pushed, fresh_process, tmp_path):
    code = f"""
import json, torch, transformers
repo = {pushed.repo!r}
tensors = {{}}
for name in {[name for name in AUTO_MAP if name != "AutoConfig"]!r}:
    model = getattr(transformers, name).from_pretrained(repo, trust_remote_code=True)
    assert type(model).__module__.startswith("transformers_modules"), type(model)
    tensors[name] = dict(model.state_dict())
torch.save(tensors, {str(tmp_path / "tensors.pt")!r})
config = transformers.AutoConfig.from_pretrained(repo, trust_remote_code=True)
assert type(config).__name__ == "VanillaTransformerConfig"
plain = transformers.AutoTokenizer.from_pretrained(repo, trust_remote_code=False)
model = transformers.AutoModelForSeq2SeqLM.from_pretrained(repo, trust_remote_code=True)
texts = [text for text in {TEXTS!r} if text]
for tokenizer in (plain, transformers.AutoTokenizer.from_pretrained(repo, trust_remote_code=True)):
    outputs = [model.generate(**tokenizer(text, return_tensors="pt"))[0] for text in texts]
    print(json.dumps([tokenizer.decode(output, skip_special_tokens=True) for output in outputs]))
"""
    home = tmp_path / "home"
    first, second = fresh_process(pushed.hub, code, hf_home=home).splitlines()
    assert json.loads(first) == json.loads(second) == translate(pushed.folder)
    weights = load_file(pushed.folder / "model.safetensors")
    for name, tensors in torch.load(tmp_path / "tensors.pt").items():
        prefix = "model." if name in ("AutoModel", "AutoModelForTextEncoding") else ""
        shared = {key for key in tensors if prefix + key in weights}
        new = {key for key in set(tensors) - shared if not key.endswith(("embed_tokens.weight", "lm_head.weight"))}
        assert len(shared) > 10
        assert all(torch.equal(tensors[key], weights[prefix + key]) for key in shared), name
        assert all(key.startswith(("classifier.", "qa_outputs.")) for key in new), (name, new)
    # Once loaded, it loads again without the Hub.
    before = len(pushed.hub.requests)
    assert fresh_process(pushed.hub, code, hf_home=home, HF_HUB_OFFLINE="1").splitlines() == [first, second]
    assert len(pushed.hub.requests) == before


def test_pipelines_by_task_and_without(pushed, fresh_process):
    code = f"""
import json
from transformers import pipeline
for task in ("translation", None):
    translator = pipeline(task, model={pushed.repo!r}, trust_remote_code=True, device="cpu")
    print(json.dumps([result["translation_text"] for result in translator({TEXTS!r})]))
try:
    pipeline("translation", model={pushed.repo!r}, trust_remote_code=False)
except ValueError as error:
    print(str(error).replace(chr(10), " "))
"""
    first, second, refusal = fresh_process(pushed.hub, code).splitlines()
    translations = translate(pushed.folder)
    assert json.loads(first) == json.loads(second) == [translations[0], "", *translations[1:]]
    assert len(set(translations)) > 1  # else anything is equal
    assert "contains custom code" in refusal and "trust_remote_code=True" in refusal


@pytest.mark.slow
def test_a_classifier_is_pushed_and_its_card_runs(pushed, fresh_process, run_module, tmp_path):
    rows = [f"{'red' if i % 2 else 'new'} car {i}\t{'colour' if i % 2 else 'age'}" for i in range(60)]
    (tmp_path / "train.tsv").write_text("sentence\tlabel\n" + "\n".join(rows) + "\n")
    settings = {
        "task": "text-classification",
        "preset": "tiny",
        "vocab_size": 300,
        "tokens_per_step": 400,
        "max_steps": 4,
        "save_steps": 4,
        "average_checkpoints": 1,
    }
    words = [word for name, value in settings.items() for word in (f"--{name}", value)]
    words += ["--train_file", tmp_path / "train.tsv", "--test_file", tmp_path / "train.tsv"]
    result = run_module(
        pushed.hub, "training.train", *words, "--output_dir", tmp_path / "run", "--push_to_hub", "true",
        "--hub_model_id", "alice/classifier",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    card = pushed.hub.commits("alice/classifier")[-1].files["README.md"].decode()
    assert "pipeline_tag: text-classification" in card and "`age`, `colour`" in card
    code = card.split("```python\n")[1].partition("```")[0]
    printed = fresh_process(pushed.hub, code)
    assert re.search(r"'label': '(age|colour)'", printed)


@pytest.mark.slow
def test_a_pinned_revision_stays_what_it_was(pushed, fresh_process, run_together, tmp_path):
    folder = tmp_path / "later"
    shutil.copytree(pushed.folder, folder, ignore=shutil.ignore_patterns("checkpoint-*"))
    weights = load_file(folder / "model.safetensors")
    later = {name: tensor * 2 for name, tensor in weights.items()}
    with open(folder / "modeling_vanilla_transformer.py", "a") as code:
        code.write("\nVanillaTransformerPreTrainedModel.is_later = True\n")
    save_file(later, folder / "model.safetensors", metadata={"format": "pt"})
    commands = [["--model", version, "--repo", "alice/pinned"] for version in (pushed.folder, folder)]
    results = run_together(pushed.hub, "training.push", commands)
    assert [result.returncode for result in results] == [0, 0], results
    assert "alice/pinned, v2" in results[1].stdout
    oid = pushed.hub.commits("alice/pinned")[1].oid
    fresh_process(
        pushed.hub,
        f"""
import torch
from transformers import AutoModelForSeq2SeqLM
for name, settings in (("first", {{"revision": "v1"}}), ("commit", {{"revision": {oid!r}}}), ("last", {{}})):
    model = AutoModelForSeq2SeqLM.from_pretrained("alice/pinned", trust_remote_code=True, **settings)
    assert hasattr(model, "is_later") == (name == "last")  # the code is pinned too
    torch.save(model.model.shared.weight.detach(), {str(tmp_path)!r} + "/" + name + ".pt")
""",
    )
    shared = weights["model.shared.weight"]
    for name, expected in (("first", shared), ("commit", shared), ("last", shared * 2)):
        assert torch.equal(torch.load(tmp_path / f"{name}.pt"), expected), name


@pytest.mark.slow
def test_fine_tuned_with_a_plain_trainer_and_pushed_again_it_loads_again(pushed, fresh_process, tmp_path):
    fresh_process(
        pushed.hub,
        f"""
from transformers import (
    AutoModelForSeq2SeqLM, AutoTokenizer, DataCollatorForSeq2Seq, Seq2SeqTrainer, Seq2SeqTrainingArguments
)
tokenizer = AutoTokenizer.from_pretrained({pushed.repo!r}, trust_remote_code=True)
model = AutoModelForSeq2SeqLM.from_pretrained({pushed.repo!r}, trust_remote_code=True)
pairs = [("The boat is red.", "El barco es rojo.")] * 8
trainer = Seq2SeqTrainer(
    model=model,
    args=Seq2SeqTrainingArguments(
        output_dir={str(tmp_path / "tuned")!r}, max_steps=2, use_cpu=True,
        push_to_hub=True, hub_model_id="alice/tuned", hub_strategy="end",
    ),
    train_dataset=[dict(tokenizer(source, text_target=target)) for source, target in pairs],
    data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
    processing_class=tokenizer,
)
trainer.train()
trainer.push_to_hub()
""",
        token="hf_alice",
    )
    files = pushed.hub.commits("alice/tuned")[-1].files
    assert {name for name in files if name.endswith(".py")} == CODE
    config = json.loads(files["config.json"])
    assert config["auto_map"] == AUTO_MAP and "translation" in config["custom_pipelines"]
    output = fresh_process(
        pushed.hub,
        f"""
import json
from transformers import AutoModelForMaskedLM, pipeline
translator = pipeline(model="alice/tuned", trust_remote_code=True, device="cpu")
print(type(translator.model).__module__)
print(json.dumps([result["translation_text"] for result in translator({TEXTS!r})]))
AutoModelForMaskedLM.from_pretrained("alice/tuned", trust_remote_code=True)
""",
    ).splitlines()
    assert ".tuned." in output[0] and ".en_" not in output[0]  # its own code, not that of the first repository
    translations = translate(tmp_path / "tuned")
    assert json.loads(output[1]) == [translations[0], "", *translations[1:]]


@pytest.mark.slow
def test_the_native_form_needs_no_code(pushed, fresh_process, tmp_path):
    assert "|X| + 50" in pushed.output
    assert not [name for name in pushed.hub.commits(pushed.native)[-1].files if name.endswith(".py")]
    fresh_process(
        pushed.hub,
        f"""
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained({pushed.native!r}, trust_remote_code=False)
model = AutoModelForSeq2SeqLM.from_pretrained({pushed.native!r}, trust_remote_code=False)
batch = tokenizer({TEXTS[2:]!r}, text_target={TEXTS[2:]!r}, return_tensors="pt", padding=True)
torch.save((dict(batch), model(**batch).logits.detach()), {str(tmp_path / "logits.pt")!r})
""",
    )
    batch, logits = torch.load(tmp_path / "logits.pt")
    ours = AutoModelForSeq2SeqLM.from_pretrained(pushed.folder)(**batch).logits
    real = batch["labels"] != 1
    torch.testing.assert_close(ours[real], logits[real], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_the_code_on_both_cards_runs_as_printed(pushed, fresh_process):
    model, tokenizer = load_model(pushed.folder)
    snippets, expected = [], []
    for repo, number, form in ((pushed.repo, 2, model), (pushed.native, 1, to_marian(model))):
        card = pushed.hub.commits(repo)[-1].files["README.md"].decode()
        found = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
        assert len(found) == number
        for snippet in found:
            assert f'"{repo}", revision="v1"' in snippet
            asked = re.search(r'(?:translator|tokenizer)\("(.*?)"', snippet)[1]
            inputs = tokenizer(asked, return_tensors="pt")
            expected.append(tokenizer.decode(form.generate(**inputs)[0], skip_special_tokens=True))
        snippets += found
    code = f"for snippet in {snippets!r}:\n    exec(snippet, {{}})\n    print('END OF SNIPPET')"
    printed = fresh_process(pushed.hub, code).split("END OF SNIPPET")[:-1]
    assert len(printed) == 3
    assert all(text and text in shown for text, shown in zip(expected, printed, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("xet", [False, True], ids=["LFS", "Xet"])
def test_the_command_line_of_the_hub_brings_it_back_as_it_was(pushed, tmp_path, xet):
    if xet:
        pytest.importorskip("hf_xet")
    files = pushed.hub.commits(pushed.repo)[-1].files
    program = str(Path(sys.executable).parent / "hf")
    with HubServer(xet=xet) as other:

        def hf(hub, *arguments):
            result = subprocess.run(
                [program, *arguments],
                capture_output=True,
                text=True,
                env=hub.environment(tmp_path / "home"),
                timeout=600,
            )
            assert result.returncode == 0, result.stdout + result.stderr

        hf(pushed.hub, "download", pushed.repo, "--local-dir", str(tmp_path / "down"))
        hf(other, "repos", "create", "alice/copy")
        hf(other, "upload", "alice/copy", str(tmp_path / "down"), ".", "--exclude", ".cache/*")
        entry = other.commits("alice/copy")[-1].entries["model.safetensors"]
        assert entry.large and bool(entry.xet_hash) == xet
        hf(other, "download", "alice/copy", "--local-dir", str(tmp_path / "again"))
    for folder in (tmp_path / "down", tmp_path / "again"):
        found = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        assert found == files
