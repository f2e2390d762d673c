"""
Score translations that you already have: log P(Y|X) and perplexity of each.

    python examples/forced_scores.py
"""

import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

import vanilla_transformer  # noqa: F401 (the Auto classes find the model)

tokenizer = AutoTokenizer.from_pretrained("checkpoints/tiny-en-es")
model = AutoModelForSeq2SeqLM.from_pretrained("checkpoints/tiny-en-es")
translations = ["¿Cómo estás?", "¿Cómo está usted?", "La casa es roja."]
batch = tokenizer(["How are you?"] * 3, text_target=translations, return_tensors="pt", padding=True)
labels = batch["labels"]  # (B, T)
with torch.no_grad():
    logits = model(**batch).logits  # (B, T, V)
scores = logits.log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)  # (B, T)
counted = labels != tokenizer.pad_token_id
totals = (scores * counted).sum(-1)
for translation, total, count in zip(translations, totals, counted.sum(-1), strict=True):
    print(f"log P {total:.2f}, perplexity {(-total / count).exp():.1f}: {translation}")
