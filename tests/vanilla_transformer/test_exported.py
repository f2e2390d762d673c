"""The facts beside an exported model: damage of the file, and bugs in what reads it."""

import json

import pytest

from vanilla_transformer import VanillaTransformerConfig
from vanilla_transformer.errors import ModelFolderError
from vanilla_transformer.exported import FACTS_OF_EXPORT, Exported, read_exported


def raise_bug(*_):
    raise NameError("name 'x' is not defined")


def test_a_bug_in_reading_the_facts_is_not_damage(tmp_path, monkeypatch):
    settings = {"num_beams": 4, "decoder_start_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    Exported("onnx", "float32", None, VanillaTransformerConfig().to_dict(), settings).save(tmp_path)
    assert read_exported(tmp_path).settings().num_beams == 4
    for name in ("check_types", "Exported.model_config", "Exported.settings"):
        with monkeypatch.context() as patched:
            patched.setattr(f"vanilla_transformer.exported.{name}", raise_bug)
            with pytest.raises(NameError):
                read_exported(tmp_path)
    facts = json.loads((tmp_path / FACTS_OF_EXPORT).read_text())
    for name, value in (("hidden_size", "wide"), ("hidden_size", 30), ("id2label", 3)):
        damaged = {**facts, "config": {**facts["config"], name: value}}
        (tmp_path / FACTS_OF_EXPORT).write_text(json.dumps(damaged))
        with pytest.raises(ModelFolderError, match="is damaged: "):
            read_exported(tmp_path)
