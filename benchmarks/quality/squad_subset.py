"""
A part of a file in the form of SQuAD, to see that a model can learn all of it.

    python -m benchmarks.quality.squad_subset dev-v1.1.json subset.json --questions 100

Half of its questions are on the longest contexts, with answers in the last tenth of them: where a context goes in
several windows, these are in the last one. The other half are the first of the file.
"""

import argparse
import json
import sys
from pathlib import Path

from training.tasks.question_answering import Question, read_squad


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.squad_subset", description="Take some questions."
    )
    parser.add_argument("file", type=Path, help="in the form of SQuAD")
    parser.add_argument("output", type=Path, help="file to write")
    parser.add_argument("--questions", type=int, default=100, help="(100)")
    options = parser.parse_args()
    questions = read_squad(options.file).questions
    late = [each for each in questions if each.answers[0][1] > 0.9 * len(each.context)]
    late.sort(key=lambda each: -len(each.context))
    chosen = late[: options.questions // 2]
    ids = {each.id for each in chosen}
    chosen += [each for each in questions if each.id not in ids][: options.questions - len(chosen)]
    paragraphs = [paragraph(each) for each in chosen]
    options.output.write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}), encoding="utf-8")
    lengths = [len(each.context) for each in chosen[: options.questions // 2]]
    print(f"{len(chosen)} questions; the longest contexts have up to {max(lengths, default=0):,} characters")
    return 0


def paragraph(question: Question) -> dict[str, object]:
    """A question with its context, as SQuAD writes it."""
    answers = [{"text": text, "answer_start": start} for text, start in question.answers]
    return {"context": question.context, "qas": [{"id": question.id, "question": question.text, "answers": answers}]}


if __name__ == "__main__":
    sys.exit(main())
