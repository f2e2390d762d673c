"""
A trigram model to compare a causal language model with: interpolated with Witten and Bell's weights, by NLTK.

    python -m benchmarks.quality.trigram runs/causal_lm --train_file train.txt --test_file valid.txt

It has the tokenizer of the model in the folder, and predicts the same tokens: all of each block of the recipe's length
but the first, from the one or two before it in the block.
"""

import argparse
import math
import sys

from nltk.lm import Vocabulary, WittenBellInterpolated
from nltk.util import everygrams
from transformers import AutoTokenizer

from training.metrics.language_modeling import perplexity
from training.tasks.language_modeling import CausalLanguageModeling, encode_blocks, read_texts


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.trigram", description="Perplexity of a trigram model."
    )
    parser.add_argument("model", help="folder of a model, for its tokenizer")
    parser.add_argument("--train_file", required=True, help="plain text, a text a line")
    parser.add_argument("--test_file", required=True, help="the text to predict")
    parser.add_argument(
        "--block_size",
        type=int,
        default=CausalLanguageModeling.length,
        help=f"tokens of a block ({CausalLanguageModeling.length})",
    )
    options = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    train, test = (
        encode_blocks(read_texts(path).turns, tokenizer, options.block_size, drop_short=False)["input_ids"]
        for path in (options.train_file, options.test_file)
    )
    train, test = ([list(map(str, ids)) for ids in blocks] for blocks in (train, test))
    entries = list(map(str, range(len(tokenizer))))
    model = WittenBellInterpolated(3, vocabulary=Vocabulary(entries))
    model.fit(everygrams(block, max_len=3) for block in train)
    model.counts.update([[(entry,) for entry in entries]])  # each once more, so that none is impossible
    losses = [
        -math.log(model.score(block[i], block[max(0, i - 2) : i])) for block in test for i in range(1, len(block))
    ]
    loss = math.fsum(losses) / len(losses)
    print(f"{len(losses):,} tokens: NLL {loss:.4f}, perplexity {perplexity(loss):.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
