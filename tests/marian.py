"""Small random models of `MarianMTModel`, of the shapes that OPUS-MT has, and a tokenizer that is learned for one."""

import io
import json
from pathlib import Path

import torch
from transformers import GenerationConfig, MarianConfig, MarianMTModel, MarianTokenizer

from training.data.phrasebook import phrasebook

CASES: dict[str, dict[str, object]] = {
    "as OPUS-MT": {},
    "gelu, other depths and width": {
        "encoder_layers": 3,
        "decoder_layers": 1,
        "activation_function": "gelu",
        "d_model": 96,
        "encoder_attention_heads": 6,
        "decoder_attention_heads": 6,
    },
    "embeddings as they are": {"scale_embedding": False},
    "short positions, relu, no bias": {"max_position_embeddings": 77, "activation_function": "relu", "bias": False},
    "two vocabularies": {
        "share_encoder_decoder_embeddings": False,
        "decoder_vocab_size": 200,
        "pad_token_id": 199,
        "decoder_start_token_id": 199,
    },
    "three matrices": {"tie_word_embeddings": False},
}


def random_marian(bias: bool = True, **changes: object) -> MarianMTModel:
    """A model of random weights, norms and biases too, whose padding token would win without `bad_words_ids`."""
    sizes: dict[str, object] = {
        "vocab_size": 300,
        "d_model": 64,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_ffn_dim": 128,
        "decoder_ffn_dim": 128,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "activation_function": "swish",
        "scale_embedding": True,
        "pad_token_id": 299,
        "eos_token_id": 0,
        "decoder_start_token_id": 299,
        "max_position_embeddings": 512,
    }
    torch.manual_seed(0)
    model = MarianMTModel(MarianConfig(**{**sizes, **changes})).eval()
    padding = model.config.pad_token_id
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embed_positions" not in name:
                scale = 64**-0.5 if parameter.dim() == 2 and "embed" in name else 0.2
                parameter.add_(scale * torch.randn_like(parameter))
        if bias:
            model.final_logits_bias.copy_(torch.randn_like(model.final_logits_bias))
            model.final_logits_bias[0, padding] = 9.0
    model.generation_config = GenerationConfig(
        bad_words_ids=[[padding]],
        bos_token_id=0,
        decoder_start_token_id=padding,
        eos_token_id=0,
        forced_eos_token_id=0,
        max_length=60,
        num_beams=4,
        pad_token_id=padding,
        renormalize_logits=bias,  # as newer folders of OPUS-MT have it, and older ones do not
    )
    return model


def learn_sentencepiece(lines: list[str], size: int) -> bytes:
    """A SentencePiece model of some lines."""
    import sentencepiece

    stream = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=stream,
        vocab_size=size,
        minloglevel=2,
        num_threads=1,
        hard_vocab_limit=False,
    )
    return stream.getvalue()


def write_tokenizer(folder: Path) -> MarianTokenizer:
    """Learn and write Marian's two SentencePiece files and its joint vocabulary, as OPUS-MT has them."""
    import sentencepiece

    sources, targets = zip(*phrasebook()["train"][:400], strict=True)
    pieces: list[str] = []
    for name, lines in (("source.spm", sources), ("target.spm", targets)):
        (folder / name).write_bytes(learn_sentencepiece(list(lines), 120))
        model = sentencepiece.SentencePieceProcessor(model_file=str(folder / name))
        pieces += [model.id_to_piece(i) for i in range(3, len(model))]
    words = ["</s>", "<unk>", *dict.fromkeys(pieces), "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"source_lang": "en", "target_lang": "es"}))
    return MarianTokenizer.from_pretrained(folder)


def write_marian(folder: Path, **changes: object) -> MarianMTModel:
    """Write a model as OPUS-MT publishes it, with a tokenizer and a page."""
    folder.mkdir()
    tokenizer = write_tokenizer(folder)
    size = len(tokenizer)
    ids = {"vocab_size": size, "pad_token_id": size - 1, "decoder_start_token_id": size - 1}
    model = random_marian(**{**ids, **changes})
    model.save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n\n# opus-mt-en-es\n", encoding="utf-8")
    return model
