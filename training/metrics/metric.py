"""The common part of the metrics of `evaluate` here: they work without the Hub, and say what they take."""

from typing import ClassVar

import datasets
import evaluate


class Metric(evaluate.Metric):
    """
    An `evaluate.Metric` that keeps its batches in memory.

    Attributes:
        takes: what predictions and references are.
        columns: their types.
        description_text: what is measured; the docstring of the class without it.
    """

    takes: ClassVar[str]
    columns: ClassVar[dict[str, object]]
    description_text: str | None = None

    def __init__(self) -> None:
        super().__init__(keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.description_text or type(self).__doc__,
            citation="",
            inputs_description=self.takes,
            features=datasets.Features(self.columns),
        )
