"""
Show what a model translates. It runs in a process of its own: what it translates with is what was saved.

    python -m training.demo checkpoints/tiny-en-es   # comes with the project
    python -m training.demo runs/demo                # what `make demo` trains
"""

import argparse
import sys
from pathlib import Path

import torch
from transformers.utils import logging

from training.data.phrasebook import phrasebook
from training.publish.result_folder import translate_command
from vanilla_transformer import VanillaTransformerTranslationPipeline
from vanilla_transformer.errors import run_command
from vanilla_transformer.loading import load_model
from vanilla_transformer.model_card import ModelCardFacts

TRAINED = Path("runs/demo")
UNSEEN = 5
TUTORIAL = "How are you?"
# None of these is in the training text of checkpoints/tiny-en-es.
EVERYDAY = (
    "Where can I buy a ticket?",
    "Can you help me carry this box?",
    "It was raining when we left the house.",
    "My sister has lived in this city for ten years.",
    "I would like a cup of coffee, please.",
    "She told me that she was tired.",
    "Have you ever been to Spain?",
)
# As people type.
TYPED = (
    "how are you",
    "HOW ARE YOU?",
    "good morning",
    "house",
    "I have 42 books.",
    "Write to ana@example.com, please.",
)


def main(arguments: list[str] | None = None) -> int:
    """Translate some sentences; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.demo", description="Show what a model translates.")
    parser.add_argument("model", type=Path, help=f"folder of a model; {TRAINED} is shown on the phrasebook")
    parser.add_argument("--num_threads", type=int, help="threads on a CPU; torch's own number without it")
    options = parser.parse_args(arguments)
    model = options.model
    if options.num_threads is not None:
        if options.num_threads < 1:
            parser.error(f"--num_threads must be at least 1, but is {options.num_threads}")
        torch.set_num_threads(options.num_threads)
    if not (model / "model.safetensors").is_file():
        print(
            f"error: {model} has no model. Train it: python -m training.train training/recipes/demo.yaml",
            file=sys.stderr,
        )
        return 2
    logging.disable_progress_bar()
    return run_command(lambda: show(model))


def show(model: Path) -> int:
    """Show the translations of a model and a command for more; returns 0."""
    sentence = show_phrasebook(model) if model == TRAINED else show_everyday(model)
    print("\nTry a sentence of your own:")
    print(f"  {translate_command(model, sentence)}\n")
    return 0


def translate(folder: Path, sentences: list[str]) -> list[str]:
    """The translations of a model in a folder."""
    model, tokenizer = load_model(folder)
    print(f"\nLoaded {folder} through AutoModelForSeq2SeqLM and AutoTokenizer.")
    translator = VanillaTransformerTranslationPipeline(model=model, tokenizer=tokenizer)
    return [each["translation_text"] for each in translator(sentences)]


def show_everyday(folder: Path) -> str:
    """Sentences of everyday life; returns another one to try."""
    sentences = [TUTORIAL, *EVERYDAY, *TYPED]
    translations = translate(folder, sentences)
    print()
    for english, spanish in zip(sentences, translations, strict=True):
        print(f"  {english}  ->  {spanish}")
    return "What time does the next train leave?"


def show_phrasebook(folder: Path) -> str:
    """The tutorial's sentence, and some of the test part; returns another one to try."""
    corpus = phrasebook()
    unseen = corpus["test"][:: len(corpus["test"]) // UNSEEN][:UNSEEN]
    tutorial, *translations = translate(folder, [TUTORIAL, *(english for english, _ in unseen)])
    print("\nFrom the training part:")
    print(f"  {TUTORIAL}  ->  {tutorial}")
    test = ModelCardFacts.load(folder).results.splits.get("test")
    bleu = None if test is None else test.scores.get("bleu")
    measured = "" if bleu is None else f" (BLEU of all {len(corpus['test'])}: {bleu.value:.1f})"
    print(f"\nCombinations of words that training never showed{measured}:")
    for (english, spanish), translation in zip(unseen, translations, strict=True):
        mark = "" if translation == spanish else f"    (expected: {spanish})"
        print(f"  {english}  ->  {translation}{mark}")
    return "Where is the yellow hat?"


if __name__ == "__main__":
    sys.exit(main())
