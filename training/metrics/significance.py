"""Whether two systems differ: the paired tests of sacreBLEU on their translations of one text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sacrebleu.significance import PairedTest

from training.metrics.translation import bleu_metric

TRIALS = 10_000  # of approximate randomization, as sacreBLEU has it


@dataclass(frozen=True)
class Difference:
    """
    How the BLEU of a system differs from that of the first.

    Attributes:
        bleu: its BLEU less that of the first.
        bootstrap: the p-value of paired bootstrap resampling (Koehn 2004).
        randomization: the p-value of paired approximate randomization (Riezler and Maxwell 2005).
        signatures: how sacreBLEU computed the two.
    """

    bleu: float
    bootstrap: float
    randomization: float
    signatures: tuple[str, str]


def compare_systems(
    systems: Mapping[str, Sequence[str]], references: Sequence[str], tokenize: str, samples: int, trials: int = TRIALS
) -> dict[str, Difference]:
    """
    Compare each system with the first by sacreBLEU's paired tests, with its seed (12345, or SACREBLEU_SEED).

    Args:
        systems: translations of the same lines, by the systems' names.
        references: a line for each of theirs.
        tokenize: one of sacreBLEU's tokenizers.
        samples: of the bootstrap, at least 1.
        trials: of the randomization.

    Returns:
        the differences by name, without the first system; p is 1 where all translations are the same.
    """
    named = list(systems.items())
    found = []
    for kind, count in (("bs", samples), ("ar", trials)):
        test = PairedTest(named, {"BLEU": bleu_metric(tokenize)}, [references], test_type=kind, n_samples=count)
        signatures, scores = test()
        found.append((scores["BLEU"], f"BLEU|{signatures['BLEU']}"))
    (bootstrap, its_signature), (randomization, other_signature) = found
    differences = {}
    for i, (name, lines) in enumerate(named):
        # The bootstrap of sacreBLEU gives the least p of all to translations that are the same.
        same = list(lines) == list(named[0][1])
        differences[name] = Difference(
            bleu=bootstrap[i].score - bootstrap[0].score,
            bootstrap=1.0 if same else bootstrap[i].p_value,
            randomization=1.0 if same else randomization[i].p_value,
            signatures=(its_signature, other_signature),
        )
    del differences[named[0][0]]
    return differences
