"""A recipe that trains a very small model on a corpus of a few sentences, in seconds."""

from pathlib import Path

import yaml

from training.phrasebook import phrasebook


def write_recipe(folder: Path) -> Path:
    """Write `recipe.yaml` and its texts into a folder; the run goes to `run` beside them."""
    corpus = phrasebook()
    for split, count in (("train", 200), ("validation", 20)):
        for side, language in enumerate(("en", "es")):
            lines = [pair[side] for pair in corpus[split][:count]]
            (folder / f"{split}.{language}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    settings = {
        "source": str(folder / "train.en"),
        "target": str(folder / "train.es"),
        "validation_source": str(folder / "validation.en"),
        "validation_target": str(folder / "validation.es"),
        "source_lang": "en",
        "target_lang": "es",
        "output_dir": str(folder / "run"),
        "preset": "tiny",
        "config_overrides": {"encoder_layers": 1, "decoder_layers": 1, "hidden_size": 32, "intermediate_size": 32},
        "vocab_size": 300,
        "tokens_per_step": 400,
        "warmup_steps": 20,
        "max_steps": 12,
        "save_steps": 2,
        "eval_strategy": "steps",
        "eval_steps": 6,
        "logging_steps": 2,
        "average_checkpoints": 3,
        "run_on": "cpu",
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path
