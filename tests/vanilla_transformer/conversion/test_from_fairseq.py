"""Checkpoints of fairseq with their dictionaries: the folder that `import` writes, and what is refused."""

import argparse
import os

import pytest
import torch
from transformers import AutoTokenizer, FSMTTokenizer

from tests.fairseq import ARGUMENTS, make_tensors, write_fairseq
from vanilla_transformer.cli import main
from vanilla_transformer.loading import load_model


def refuse(folder, output, capsys):
    assert main(["import", str(folder), str(output)]) == 2
    assert not list(output.parent.glob(f"{output.name}*"))
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    return said


def test_its_dictionary_and_codes_become_a_tokenizer(tmp_path, capsys):
    write_fairseq(tmp_path / "fairseq")
    assert main(["import", str(tmp_path / "fairseq"), str(tmp_path / "model")]) == 0
    assert "en to de" in capsys.readouterr().out
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert type(tokenizer) is FSMTTokenizer
    # <s> 0, <pad> 1, </s> 2, <unk> 3, then the dictionary: the, ho@@, use, is, red and the full stop.
    assert tokenizer("the house is red.").input_ids == [4, 5, 6, 7, 8, 9, 2]
    assert tokenizer.decode([4, 5, 6, 7, 8, 9, 2], skip_special_tokens=True) == "the house is red."
    model, _ = load_model(tmp_path / "model")
    assert model.config.position_offset == 2 and model.generation_config.suppress_tokens == [1]
    assert main(["translate", "--model", str(tmp_path / "model"), "the house is red."]) == 0


def test_norms_before_and_learned_positions_are_imported(tmp_path):
    names = [f"{stack}_{name}" for stack in ("encoder", "decoder") for name in ("normalize_before", "learned_pos")]
    tensors = make_tensors(learned=20, final_norm=True)
    write_fairseq(tmp_path / "fairseq", tensors, **dict.fromkeys(names, True))
    assert main(["import", str(tmp_path / "fairseq" / "model.pt"), str(tmp_path / "model")]) == 0
    model, _ = load_model(tmp_path / "model")
    assert model.config.norm_first and model.config.position_limit == 20
    positions = model.model.encoder.embed_positions.weight
    assert torch.equal(positions, tensors["encoder.embed_positions.weight"][2:])
    assert torch.equal(model.lm_head.weight, tensors["decoder.output_projection.weight"])  # channels stay


def test_joint_projections_of_older_files_are_parted(tmp_path):
    tensors, joint = make_tensors(), make_tensors()
    for kind in ("weight", "bias"):
        name = "encoder.layers.0.self_attn"
        parts = [joint.pop(f"{name}.{part}_proj.{kind}") for part in "qkv"]
        joint[f"{name}.in_proj_{kind}"] = torch.cat(parts)
    models = []
    for name, each in (("new", tensors), ("old", joint)):
        write_fairseq(tmp_path / name, each)
        assert main(["import", str(tmp_path / name), str(tmp_path / f"{name}_model")]) == 0
        models.append(load_model(tmp_path / f"{name}_model")[0].state_dict())
    assert all(torch.equal(tensor, models[1][name]) for name, tensor in models[0].items())


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"layernorm_embedding": True}, "`layernorm_embedding`"),
        ({"no_token_positional_embeddings": True}, "`no_token_positional_embeddings`"),
        ({"adaptive_softmax_cutoff": "100,200"}, "`adaptive_softmax_cutoff`"),
        ({"cross_self_attention": True}, "`cross_self_attention`"),
        ({"decoder_attention_heads": 4}, "`encoder_attention_heads`"),
        ({"encoder_normalize_before": True}, "`encoder_normalize_before`"),
        ({"activation_fn": "gelu_fast"}, "`activation_fn`"),
        ({"encoder_layers": 2}, "encoder.layers.1"),
        ({"target_lang": "fr"}, "translates en to fr, but its dictionaries are for de and en"),
    ],
)
def test_another_architecture_is_refused_by_name(tmp_path, capsys, arguments, named):
    write_fairseq(tmp_path / "fairseq", **arguments)
    assert named in refuse(tmp_path / "fairseq", tmp_path / "out", capsys)


class Harmful:
    def __reduce__(self):
        return os.system, ("echo this ran",)


def test_damaged_files_and_pickles_with_code_are_named(tmp_path, capsys):
    folder = write_fairseq(tmp_path / "fairseq")
    whole = (folder / "model.pt").read_bytes()
    (folder / "model.pt").write_bytes(whole[: len(whole) // 2])
    assert "model.pt is damaged" in refuse(folder, tmp_path / "out", capsys)
    (folder / "model.pt").write_bytes(b"no archive")
    assert "model.pt" in refuse(folder, tmp_path / "out", capsys)
    torch.save({"args": argparse.Namespace(**ARGUMENTS), "model": {}, "extra": Harmful()}, folder / "model.pt")
    assert "more than weights" in refuse(folder, tmp_path / "out", capsys)
    torch.save({"model": {}}, folder / "model.pt")
    assert "translates None to None" in refuse(folder, tmp_path / "out", capsys)
    (folder / "model.pt").write_bytes(whole)
    tensors = {**make_tensors(), "decoder.extra": torch.ones(1)}
    torch.save({"args": argparse.Namespace(**ARGUMENTS), "model": tensors}, folder / "model.pt")
    assert "such as decoder.extra" in refuse(folder, tmp_path / "out", capsys)
    (folder / "model.pt").write_bytes(whole)
    (folder / "bpecodes").unlink()
    assert "has no bpecodes" in refuse(folder, tmp_path / "out", capsys)
    (folder / "dict.de.txt").unlink()
    assert "must have two dictionaries" in refuse(folder, tmp_path / "out", capsys)
