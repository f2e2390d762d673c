"""
Logits against `MarianMTModel` with the same weights.

Marian keeps the paper's sinusoids as [sines | cosines], so that its channels are ours in another order: what touches
the residual stream is permuted.
"""

import torch
from torch import nn
from transformers import MarianConfig, MarianMTModel

from vanilla_transformer import VanillaTransformerForConditionalGeneration


def marian_from(model: VanillaTransformerForConditionalGeneration) -> MarianMTModel:
    config = model.config
    marian = MarianMTModel(
        MarianConfig(
            vocab_size=config.vocab_size,
            d_model=config.hidden_size,
            encoder_layers=config.encoder_layers,
            decoder_layers=config.decoder_layers,
            encoder_attention_heads=config.num_attention_heads,
            decoder_attention_heads=config.num_attention_heads,
            encoder_ffn_dim=config.intermediate_size,
            decoder_ffn_dim=config.intermediate_size,
            activation_function="relu",
            scale_embedding=True,
            max_position_embeddings=64,
            pad_token_id=config.pad_token_id,
            eos_token_id=config.eos_token_id,
            decoder_start_token_id=config.decoder_start_token_id,
        )
    ).eval()
    width = config.hidden_size
    order = torch.cat([torch.arange(0, width, 2), torch.arange(1, width, 2)])
    ours = dict(model.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for name, parameter in marian.named_parameters(remove_duplicate=False):
            if name not in ours:
                # Marian's attention has biases; zeros hold the paper's.
                assert name.endswith(
                    ("q_proj.bias", "k_proj.bias", "v_proj.bias", "out_proj.bias", "positions.weight")
                )
                if name.endswith("bias"):
                    parameter.zero_()
                continue
            weight = ours[name]
            writes_residual = name.endswith(("out_proj.weight", "fc2.weight", "fc2.bias")) or "layer_norm" in name
            if writes_residual:
                weight = weight[order]
            elif weight.dim() == 2:  # embeddings, and projections that read the residual stream
                weight = weight[:, order]
            parameter.copy_(weight)
    for module in marian.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = config.layer_norm_eps
    return marian


@torch.no_grad()
def test_logits_equal_marian(model, batch):
    marian = marian_from(model)
    inputs = {
        "input_ids": batch["input_ids"],
        "attention_mask": batch["attention_mask"],
        "decoder_input_ids": model.prepare_decoder_input_ids_from_labels(batch["labels"]),
    }
    real = batch["labels"] != -100
    ours, theirs = model(**inputs).logits, marian(**inputs).logits
    assert ours[real].std() > 0.5  # else anything is close
    torch.testing.assert_close(ours[real], theirs[real], rtol=0, atol=1e-5)
