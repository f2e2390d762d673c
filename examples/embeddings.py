"""
Turn sentences into vectors with the encoder, and compare them.

    python examples/embeddings.py
"""

import torch
from transformers import AutoModelForTextEncoding, AutoTokenizer

import vanilla_transformer  # noqa: F401 (the Auto classes find the model)

tokenizer = AutoTokenizer.from_pretrained("checkpoints/tiny-en-es")
encoder = AutoModelForTextEncoding.from_pretrained("checkpoints/tiny-en-es")  # leaves the decoder out
sentences = ["Where is the house?", "Where is the boat?", "I like tea."]
batch = tokenizer(sentences, return_tensors="pt", padding=True)
with torch.no_grad():
    states = encoder(**batch).last_hidden_state  # (B, S, D)
mask = batch.attention_mask.unsqueeze(-1)
vectors = (states * mask).sum(1) / mask.sum(1)  # (B, D), the mean of each sentence
for sentence, row in zip(sentences, torch.cosine_similarity(vectors[:, None], vectors, dim=-1), strict=True):
    print(" ".join(f"{value:.2f}" for value in row.tolist()), sentence)
