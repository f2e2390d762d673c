"""Small random models of transformers' FSMT, and checkpoints of fairseq with their dictionaries."""

import argparse

import torch
from transformers import FSMTConfig, FSMTForConditionalGeneration, GenerationConfig

SIZES = {
    "src_vocab_size": 120,
    "tgt_vocab_size": 120,
    "d_model": 64,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
}
CASES = {
    "two vocabularies": {"tgt_vocab_size": 90},
    "three matrices, gelu": {"activation_function": "gelu"},
    "one matrix, other depths": {"tie_word_embeddings": True, "decoder_layers": 1},
    "embeddings as they are": {"scale_embedding": False},
}


def random_fsmt(**changes):
    torch.manual_seed(0)
    model = FSMTForConditionalGeneration(FSMTConfig(**{**SIZES, **changes})).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embed_positions" not in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.generation_config = GenerationConfig(
        bos_token_id=0, pad_token_id=1, eos_token_id=2, decoder_start_token_id=2, num_beams=4, max_length=30
    )
    return model


ARGUMENTS = {
    "source_lang": "en",
    "target_lang": "de",
    "encoder_embed_dim": 16,
    "decoder_embed_dim": 16,
    "encoder_ffn_embed_dim": 24,
    "decoder_ffn_embed_dim": 24,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
}


def make_tensors(vocabulary=10, learned=0, final_norm=False):
    torch.manual_seed(0)
    tensors = {"encoder.embed_tokens.weight": torch.randn(vocabulary, 16)}
    tensors["decoder.embed_tokens.weight"] = torch.randn(vocabulary, 16)
    tensors["decoder.output_projection.weight"] = torch.randn(vocabulary, 16)
    for stack, attentions in (("encoder", ("self_attn",)), ("decoder", ("self_attn", "encoder_attn"))):
        layer = f"{stack}.layers.0"
        for attention in attentions:
            for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
                tensors[f"{layer}.{attention}.{part}.weight"] = torch.randn(16, 16)
                tensors[f"{layer}.{attention}.{part}.bias"] = torch.randn(16)
        tensors |= {f"{layer}.fc1.weight": torch.randn(24, 16), f"{layer}.fc1.bias": torch.randn(24)}
        tensors |= {f"{layer}.fc2.weight": torch.randn(16, 24), f"{layer}.fc2.bias": torch.randn(16)}
        norms = [f"{layer}.{attention}_layer_norm" for attention in attentions] + [f"{layer}.final_layer_norm"]
        for norm in [*norms, *([f"{stack}.layer_norm"] if final_norm else [])]:
            tensors |= {f"{norm}.weight": torch.ones(16), f"{norm}.bias": torch.zeros(16)}
        if learned:
            tensors[f"{stack}.embed_positions.weight"] = torch.randn(learned + 2, 16)
    return tensors


def write_fairseq(
    folder, tensors=None, words=("the", "ho@@", "use", "is", "red", "."), target_words=None, **arguments
):
    """Write a checkpoint with its codes, and the dictionaries of both languages, which are the same by default."""
    folder.mkdir()
    namespace = argparse.Namespace(**{**ARGUMENTS, **arguments})
    torch.save({"args": namespace, "model": tensors or make_tensors()}, folder / "model.pt")
    for language, known in (("en", words), ("de", target_words or words)):
        (folder / f"dict.{language}.txt").write_text("".join(f"{word} 9\n" for word in known))
    codes = [
        "#version: 0.2",
        "t h 9",
        "th e</w> 8",
        "h o 7",
        "u s 6",
        "us e</w> 5",
        "i s</w> 4",
        "r e 3",
        "re d</w> 2",
    ]
    (folder / "bpecodes").write_text("\n".join(codes) + "\n")
    return folder
