"""
Translate sentences: one best translation each, several with scores, and a sample.

    python examples/translate.py
"""

from vanilla_transformer import load_translator

translate = load_translator("checkpoints/tiny-en-es")
sentences = ["How are you?", "Where can I buy a ticket?"]

for sentence, result in zip(sentences, translate(sentences), strict=True):
    print(f"{sentence} -> {result['translation_text']}")

for result in translate(sentences[0], num_return_sequences=3, return_scores=True):
    print(f"{result['score']:.2f} {result['translation_text']}")

print(translate(sentences[0], do_sample=True, num_beams=1)[0]["translation_text"])
