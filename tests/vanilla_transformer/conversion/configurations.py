"""Models of every configuration that an export has to carry."""

from collections.abc import Callable

import torch

from vanilla_transformer import VanillaTransformerConfig, VanillaTransformerForConditionalGeneration

CONFIGURATIONS: dict[str, dict[str, object]] = {
    "paper": {},
    "norm_first": {"norm_first": True},
    "attention_bias": {"attention_bias": True},
    "learned": {"position_embedding_type": "learned", "max_position_embeddings": 40},
    "untied": {"tie_word_embeddings": False},
    "gelu": {"hidden_act": "gelu"},
    "gelu_new": {"hidden_act": "gelu_new"},
    "quick_gelu": {"hidden_act": "quick_gelu"},
    "silu": {"hidden_act": "silu"},
    "eps": {"layer_norm_eps": 1e-3},
    "small keys": {"qk_head_dim": 4, "v_head_dim": 8},
    "large keys": {"qk_head_dim": 16, "v_head_dim": 8},
    "small heads": {"qk_head_dim": 4, "v_head_dim": 4},
    "one head": {"num_attention_heads": 1},
    "output bias": {"output_bias": True},
    "embeddings as they are": {"scale_embedding": False},
    "sinusoids of tensor2tensor": {"sinusoid_type": "tensor2tensor", "position_offset": 2},
    "two vocabularies": {"decoder_vocab_size": 64},
    "other ids": {"bos_token_id": 2, "pad_token_id": 3, "eos_token_id": 1, "decoder_start_token_id": 59},
    "pre-norm, biases, large values": {"norm_first": True, "attention_bias": True, "v_head_dim": 16},
    "untied, learned, gelu": {
        **{"tie_word_embeddings": False, "hidden_act": "gelu"},
        **{"position_embedding_type": "learned", "max_position_embeddings": 40},
    },
}


def build_model(
    small_config: Callable[..., VanillaTransformerConfig], **changes: object
) -> VanillaTransformerForConditionalGeneration:
    """Build a model whose norms and biases are not what they begin with."""
    torch.manual_seed(0)
    model = VanillaTransformerForConditionalGeneration(small_config(**changes)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "layer_norm" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def renumber(batch: dict[str, torch.Tensor], config: VanillaTransformerConfig) -> dict[str, torch.Tensor]:
    """Give padding, id 1, and ends, id 2, of a batch the ids that a configuration has for them."""
    ids = torch.arange(config.vocab_size)
    ids[1], ids[2] = config.pad_token_id, config.eos_token_id
    labels = batch["labels"]
    return {
        "input_ids": ids[batch["input_ids"]],
        "attention_mask": batch["attention_mask"],
        "labels": torch.where(labels == -100, labels, ids[labels.clamp(min=0)]),
    }
