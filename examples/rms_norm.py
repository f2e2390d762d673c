"""
RMSNorm (Zhang and Sennrich 2019) in the place of every LayerNorm: it scales, and does not centre.

    python examples/rms_norm.py
"""

import torch
from torch import nn

from vanilla_transformer import VanillaTransformerConfig, VanillaTransformerForConditionalGeneration


class RMSNormTransformer(VanillaTransformerForConditionalGeneration):
    def __init__(self, config):
        super().__init__(config)
        for module in list(self.modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.LayerNorm):
                    setattr(module, name, nn.RMSNorm(child.normalized_shape, eps=child.eps))
        self.post_init()


if __name__ == "__main__":
    model = RMSNormTransformer(VanillaTransformerConfig.from_preset("tiny", vocab_size=100)).eval()
    print(model.generate(torch.tensor([[5, 6, 7, 2]]), max_new_tokens=8).tolist())
