"""
Show what the demo's model has learned. It runs in a process of its own: what it translates with is what was saved.

    python -m training.demo
"""

import json
import sys
from pathlib import Path

from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
from transformers.utils import logging

import vanilla_transformer  # noqa: F401  (registers the Auto classes)
from training.phrasebook import phrasebook
from training.results import translate_command

MODEL = Path("runs/demo")
UNSEEN = 5


def main() -> int:
    if not (MODEL / "model.safetensors").is_file():
        print(f"error: {MODEL} has no model. Train it: python -m training.train training/recipes/demo.yaml")
        return 2
    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    model = AutoModelForSeq2SeqLM.from_pretrained(MODEL)

    corpus = phrasebook()
    tutorial = corpus["train"][0]
    unseen = corpus["test"][:: len(corpus["test"]) // UNSEEN][:UNSEEN]
    inputs = tokenizer([english for english, _ in (tutorial, *unseen)], return_tensors="pt", padding=True)
    translations = tokenizer.batch_decode(model.generate(**inputs), skip_special_tokens=True)

    print(f"\nLoaded {MODEL} through AutoModelForSeq2SeqLM and AutoTokenizer.")
    print("\nFrom the training part:")
    print(f"  {tutorial[0]}  ->  {translations[0]}")
    results = json.loads((MODEL / "all_results.json").read_text(encoding="utf-8"))
    print(f"\nCombinations of words that training never showed (BLEU of all {len(corpus['test'])}: ", end="")
    print(f"{results['test_bleu']:.1f}):")
    for (english, spanish), translation in zip(unseen, translations[1:], strict=True):
        mark = "" if translation == spanish else f"    (expected: {spanish})"
        print(f"  {english}  ->  {translation}{mark}")
    print("\nTry a sentence of your own:")
    print(f"  {translate_command(MODEL, 'Where is the yellow hat?')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
