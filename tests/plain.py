"""What keeps `generate` on transformers' own loop, to compare the fast search with."""

from transformers import LogitsProcessor, LogitsProcessorList


class Unchanged(LogitsProcessor):
    """Changes nothing."""

    def __call__(self, input_ids, scores):
        return scores


PLAIN = LogitsProcessorList([Unchanged()])
