"""A small random model of `FSMTForConditionalGeneration`, with a tokenizer of two vocabularies of a few words."""

import json
from pathlib import Path

import torch
from transformers import FSMTConfig, FSMTForConditionalGeneration, FSMTTokenizer

SPECIALS = ["<s>", "<pad>", "</s>", "<unk>"]
WORDS = {"src": ["the</w>", "house</w>", "is</w>", "red</w>", ".</w>", "ho"], "tgt": ["rot</w>", "ist</w>", "das</w>"]}
MERGES = ["t h", "th e</w>", "h o", "u s", "us e</w>", "ho use</w>", "i s</w>", "r e", "re d</w>"]
MERGES += ["i s", "is t</w>", "d a", "da s</w>", "r o", "ro t</w>"]
SIZES = {"layers": 1, "ffn_dim": 24, "attention_heads": 2}


def write_fsmt(folder: Path) -> FSMTForConditionalGeneration:
    """Write a model as the Hub has them: "the house is red." has the ids 4 to 8, "das ist rot" 6, 5 and 4."""
    folder.mkdir()
    for name, words in WORDS.items():
        vocabulary = {word: index for index, word in enumerate([*SPECIALS, *words])}
        (folder / f"vocab-{name}.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("".join(f"{merge}\n" for merge in MERGES))
    files = [folder / name for name in ("vocab-src.json", "vocab-tgt.json", "merges.txt")]
    FSMTTokenizer(["en", "de"], *map(str, files)).save_pretrained(folder)
    sizes = {f"{stack}_{name}": size for stack in ("encoder", "decoder") for name, size in SIZES.items()}
    sizes |= {f"{name}_vocab_size": len(SPECIALS) + len(words) for name, words in WORDS.items()}
    torch.manual_seed(0)
    model = FSMTForConditionalGeneration(FSMTConfig(langs=["en", "de"], d_model=16, **sizes)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embed_positions" not in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return model
