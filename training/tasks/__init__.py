"""The tasks, a module for each kind of text."""

from training.engine.task import Task
from training.tasks.classification import TextClassification
from training.tasks.language_modeling import CausalLanguageModeling, MaskedLanguageModeling
from training.tasks.question_answering import QuestionAnswering
from training.tasks.summarization import Summarization
from training.tasks.translation import Translation

# By the Hub's names.
TASKS: dict[str, type[Task]] = {
    task.name: task
    for task in (
        Translation,
        Summarization,
        TextClassification,
        QuestionAnswering,
        MaskedLanguageModeling,
        CausalLanguageModeling,
    )
}
