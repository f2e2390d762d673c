"""The stacks against `torch.nn.TransformerEncoder` and `TransformerDecoder` with the same weights."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from training.engine.optimization import noam_learning_rate, noam_schedule
from vanilla_transformer import VanillaTransformerConfig, VanillaTransformerForConditionalGeneration


class TorchTransformer(nn.Module):
    """The paper's model out of torch's own layers, without the final norms that `nn.Transformer` adds."""

    def __init__(self, config: VanillaTransformerConfig):
        super().__init__()
        self.hidden_size = config.hidden_size
        arguments = {
            "d_model": config.hidden_size,
            "nhead": config.num_attention_heads,
            "dim_feedforward": config.intermediate_size,
            "dropout": 0.0,
            "layer_norm_eps": 1e-6,
            "batch_first": True,
            "norm_first": config.norm_first,
        }
        self.embedding = nn.Parameter(torch.empty(config.vocab_size, config.hidden_size))
        encoder_layer, decoder_layer = nn.TransformerEncoderLayer(**arguments), nn.TransformerDecoderLayer(**arguments)
        self.encoder = nn.TransformerEncoder(
            encoder_layer, config.encoder_layers, norm=None, enable_nested_tensor=False
        )
        self.decoder = nn.TransformerDecoder(decoder_layer, config.decoder_layers, norm=None)
        for name, parameter in self.named_parameters():
            if name.endswith(("in_proj_bias", "out_proj.bias")):  # the paper's attention has no biases
                parameter.requires_grad_(False)
                nn.init.zeros_(parameter)

    @torch.no_grad()
    def copy_from(self, model: VanillaTransformerForConditionalGeneration) -> "TorchTransformer":
        self.embedding.copy_(model.lm_head.weight)
        for theirs, ours in (
            *zip(self.encoder.layers, model.model.encoder.layers, strict=True),
            *zip(self.decoder.layers, model.model.decoder.layers, strict=True),
        ):
            attentions = [(theirs.self_attn, ours.self_attn)]
            norms = [(theirs.norm1, ours.self_attn_layer_norm)]
            if hasattr(ours, "encoder_attn"):
                attentions.append((theirs.multihead_attn, ours.encoder_attn))
                norms += [(theirs.norm2, ours.encoder_attn_layer_norm), (theirs.norm3, ours.final_layer_norm)]
            else:
                norms.append((theirs.norm2, ours.final_layer_norm))
            for target, source in attentions:
                projections = (source.q_proj, source.k_proj, source.v_proj)
                target.in_proj_weight.copy_(torch.cat([projection.weight for projection in projections]))
                target.out_proj.weight.copy_(source.out_proj.weight)
            for target, source in (*norms, (theirs.linear1, ours.fc1), (theirs.linear2, ours.fc2)):
                target.weight.copy_(source.weight)
                target.bias.copy_(source.bias)
        return self

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        positions = np.zeros((ids.shape[1], self.hidden_size))
        for pos in range(ids.shape[1]):
            for i in range(self.hidden_size // 2):
                angle = pos / 10000 ** (2 * i / self.hidden_size)
                positions[pos, 2 * i], positions[pos, 2 * i + 1] = math.sin(angle), math.cos(angle)
        embedded = F.embedding(ids, self.embedding) * math.sqrt(self.hidden_size)
        return embedded + torch.from_numpy(positions).to(embedded.dtype)

    def forward(
        self, source: torch.Tensor, source_mask: torch.Tensor, target: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        padding = source_mask == 0
        memory = self.encoder(self.embed(source), src_key_padding_mask=padding)
        causal = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        decoded = self.decoder(
            self.embed(target), memory, tgt_mask=causal, tgt_is_causal=True, memory_key_padding_mask=padding
        )
        return memory, decoded, decoded @ self.embedding.T


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_outputs_equal_torch_layers(model, batch, attention):
    model.set_attn_implementation(attention)
    reference = TorchTransformer(model.config).copy_from(model)
    decoder_input_ids = model.prepare_decoder_input_ids_from_labels(batch["labels"])
    with torch.no_grad():
        memory, decoded, logits = reference(batch["input_ids"], batch["attention_mask"], decoder_input_ids)
        outputs = model.model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], decoder_input_ids=decoder_input_ids
        )
        ours = model(**batch).logits
    real_source, real_target = batch["attention_mask"] == 1, batch["labels"] != -100
    for got, expected, real in (
        (outputs.encoder_last_hidden_state, memory, real_source),
        (outputs.last_hidden_state, decoded, real_target),
        (ours, logits, real_target),
    ):
        torch.testing.assert_close(got[real], expected[real], rtol=0, atol=1e-5)


def test_fifty_updates_give_the_losses_of_torch_layers(small_config):
    """The model's loss, Adam as Trainer builds it and the schedule, against full logits, torch's Adam, the formula."""
    torch.manual_seed(0)
    config = small_config(vocab_size=50, dropout=0.0)
    model = VanillaTransformerForConditionalGeneration(config).train()
    reference = TorchTransformer(config).copy_from(model).train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1.0, betas=(0.9, 0.98), eps=1e-9, weight_decay=0.0, fused=True
    )
    schedule = noam_schedule(optimizer, config.hidden_size, warmup_steps=20)
    adam = torch.optim.Adam([p for p in reference.parameters() if p.requires_grad], betas=(0.9, 0.98), eps=1e-9)

    for step in range(1, 51):
        source = torch.randint(4, 50, (6, 8))
        labels = torch.cat([source.flip(1), torch.full((6, 1), 2)], dim=1)
        mask = torch.ones_like(source)
        for row in range(6):  # ragged
            source[row, 8 - row :], mask[row, 8 - row :], labels[row, 9 - row :] = 1, 0, -100
        loss = model(input_ids=source, attention_mask=mask, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()

        decoder_input_ids = model.prepare_decoder_input_ids_from_labels(labels)
        logits = reference(source, mask, decoder_input_ids)[2]
        expected = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), label_smoothing=0.1)
        for group in adam.param_groups:
            group["lr"] = noam_learning_rate(step, config.hidden_size, warmup_steps=20)
        adam.zero_grad()
        expected.backward()
        adam.step()
        assert loss.item() == pytest.approx(expected.item(), abs=1e-4), f"update {step}"
