"""The text of `--help`: the fields that matter first, by their purpose. It loads no library, and answers at once."""

import dataclasses
import textwrap

from training.recipe.fields import DataFields, ModelFields, TrainingFields

GROUPS = {
    "The model": ("task", "preset", "init_from", "dropout", "config_overrides", "vocab_size", "tokenizer"),
    "The text": (
        *("source", "target", "sources", "train_file", "validation_source", "validation_target", "validation_file"),
        *("test_source", "test_target", "test_file", "dataset_name", "source_lang", "target_lang"),
        *("hold_out", "max_length", "drop_duplicates"),
    ),
    "The training": (
        *("output_dir", "max_steps", "num_train_epochs", "tokens_per_step", "tokens_per_device", "noam_scale"),
        *("warmup_steps", "seed", "run_on", "eval_strategy", "eval_steps", "save_steps", "patience"),
        *("average_checkpoints", "resume_from_checkpoint", "overwrite_output_dir"),
    ),
    "The Hub": ("push_to_hub", "hub_model_id"),
}
USAGE = "python -m training.train RECIPE.yaml [--field value ...]"
WIDTH = 100


def describe_fields() -> str:
    """Return the help on the fields that matter first."""
    fields = {f.name: f for part in (ModelFields, DataFields, TrainingFields) for f in dataclasses.fields(part)}
    lines = [f"usage: {USAGE}", "", "A recipe is a YAML file of these fields; the command line wins.", ""]
    for group, names in GROUPS.items():
        lines += [f"{group}:"]
        for name in names:
            text = fields[name].metadata["help"].replace("%%", "%")
            default = fields[name].default
            shown = "" if default in (None, "") or isinstance(default, bool) else f" ({default})"
            lines += textwrap.wrap(f"--{name}  {text}{shown}", WIDTH, initial_indent="  ", subsequent_indent=" " * 6)
        lines += [""]
    return "\n".join([*lines, "`--help_all` shows the other fields too, with those of transformers."])
