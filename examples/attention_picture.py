"""
Draw what the decoder attends to while it translates, and print the strongest connection of each token.

    python examples/attention_picture.py
"""

from pathlib import Path

from vanilla_transformer.loading import load_model
from vanilla_transformer.plots import attention_weights, plot_attention

model, tokenizer = load_model("checkpoints/tiny-en-es")
picture = Path("runs/attention.png")
picture.parent.mkdir(exist_ok=True)
plot_attention(model, tokenizer, "How are you?", picture, kind="cross")

weights, source, target = attention_weights(model, tokenizer, "How are you?")
last_layer = weights["cross"][-1].mean(dim=0)  # (T, S), the mean of all heads
for token, row in zip(target, last_layer, strict=True):
    print(f"{token} attends to {source[row.argmax()]} with {row.max():.2f}")
print(f"picture: {picture}")
