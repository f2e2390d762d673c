"""All exports: no field of a configuration is lost without a word."""

from tests.vanilla_transformer.conversion.configurations import CONFIGURATIONS
from vanilla_transformer import VanillaTransformerConfig
from vanilla_transformer.conversion.folder import KNOWN_FIELDS, UNUSED_FIELDS

# Fields that every small configuration of the tests has other than by default, and those that the model classes set.
SIZES = {"vocab_size", "hidden_size", "encoder_layers", "decoder_layers", "num_attention_heads", "intermediate_size"}
OF_CLASSES = {"is_encoder_decoder", "is_decoder"}


def test_no_field_of_the_configuration_is_forgotten(small_config):
    """One that is new here belongs to a list of folder.py, and to a configuration that each export is tested with."""
    assert set(VanillaTransformerConfig.__annotations__) == KNOWN_FIELDS | UNUSED_FIELDS
    small, default = small_config(), VanillaTransformerConfig()
    assert all(getattr(small, name) != getattr(default, name) for name in SIZES)
    tested = {name for changes in CONFIGURATIONS.values() for name in changes}
    assert tested | SIZES | OF_CLASSES == KNOWN_FIELDS
