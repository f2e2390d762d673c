"""Which language a text reads like, by its most frequent words or its script."""

import re
from collections.abc import Sequence

from training.data.parallel import ParallelText
from training.metrics.segmentation import two_letters
from vanilla_transformer.errors import RecipeError

READ_LINES = 2_000  # spread over the text
ENOUGH_WORDS = 200
LEAST_SHARE = 0.2  # of the words, that a language's list has; of running text it has 0.25 to 0.5
LEAST_WORDS = 2  # of a list: one may be frequent for another reason
CLEARLY = 1.5  # times the share of another language

# Words that carry the grammar, which no text does without. Lists of near relatives overlap, as the languages do.
FUNCTION_WORDS = {
    language: frozenset(words.split())
    for language, words in {
        "cs": "a v je na se to že s z do jsem o k i ve jsou jako ale za by jeho který po pro které si ze už tak když "
        "jsme od až není byl",
        "da": "og i at det en den til er som på de med han af for ikke der var mig sig men et har om vi min havde ham "
        "hun nu over da fra du ud jeg hvad blev",
        "de": "der die das und in zu den ein eine einen einer einem mit von ist im nicht auf für sich dem des es ich "
        "sie er wir hat auch an als wird war aus bei dass sind nach wie",
        "en": "the of and to a in is that it for on with as was at by be this are an he she i you his her they we "
        "from or have not has but their which will were its",
        "es": "de la que el en y a los se del las un por con no una su para es al lo como más pero sus le ha me si "
        "este está muy son también fue mi",
        "fi": "ja on ei se että hän oli en ovat mutta kun myös niin kuin joka sen mitä mikä olen tämä hänen voi jos "
        "vain sitä ole minä minun ollut mukaan tai olla",
        "fr": "de la le et les des en un une du que est dans qui pour au par sur pas il ne ce plus se avec sont son "
        "sa je vous nous elle mais ont aux cette ses",
        "hu": "a az és hogy nem is egy meg ez de van csak már ha mint volt még azt el ki én ezt vagy ami kell lehet "
        "minden nagyon akkor ezek pedig",
        "it": "di e il la che in un a per è una non con del le si da i sono gli della al come più dei nel alla lo ha "
        "anche ma mi questo ho delle",
        "nl": "de het een en van in is dat op te zijn met voor niet die er aan om ook als bij maar ik je hij was naar "
        "door uit over ze wordt worden heeft dit nog",
        "no": "og i det er på en å som til at av for med ikke de den har jeg et om var men seg han fra vi hun så kan "
        "skal ble eller hva etter ved meg",
        "pl": "i w nie na się z do to że jest o jak po co ale za od tak przez dla czy są był jego już tym może ich "
        "oraz tylko przy ze które który mnie",
        "pt": "de a o que e do da em um para com não uma os no se na por mais as dos como mas ao ele das à seu sua ou "
        "muito já também eu pelo é são está",
        "ro": "de și în a la cu pe că nu o un să este din care mai pentru sunt au ce al fi se au lui fost dar am ale "
        "sau era după prin acest",
        "ru": "и в не на я что он с это как по но к у из за от так о же для вы мы его она все было бы мне был только "
        "или они если ты",
        "sv": "och i att det en som är på av för med den till inte har de om ett jag men var sig från så han vi kan "
        "hon ska eller när också vad efter min",
        "tr": "bir ve bu da de için ile çok ne o gibi daha var ben olarak mi değil ama kadar sonra en her olan diye "
        "ya şey yok sen onun",
        "uk": "і в не на я що він з це як та у до за але від й так про для ми його вона все було ви мені був або вони "
        "якщо ти є які",
    }.items()
}
# Letters that one language has, or nearly so.
SCRIPTS = {
    "el": re.compile(r"[\u0370-\u03ff]"),
    "he": re.compile(r"[\u0590-\u05ff]"),
    "ja": re.compile(r"[\u3040-\u30ff]"),
    "ko": re.compile(r"[\uac00-\ud7af]"),
    "th": re.compile(r"[\u0e00-\u0e7f]"),
    "zh": re.compile(r"[\u4e00-\u9fff]"),
}
LETTER = re.compile(r"[^\W\d_]")
WORD = re.compile(r"[^\W\d_]+")


def compare_languages(text: ParallelText, source_lang: str | None, target_lang: str | None) -> list[str]:
    """
    Compare the languages of a training text with the recipe's. Where its words do not tell, nothing is said.

    Args:
        source_lang, target_lang: codes of ISO 639, if they are known.

    Returns:
        notes on a side that reads like a third language, or like the other side.

    Raises:
        RecipeError: if the sides are swapped.
    """
    said = {"source": two_letters(source_lang), "target": two_letters(target_lang)}
    shares = {"source": language_shares(text.sources), "target": language_shares(text.targets)}
    if None not in said.values() and are_swapped(shares, said):
        raise RecipeError(
            f"`source_lang` must be the language of the source, but is {source_lang} where the source of the train "
            f"text reads like {target_lang}, and its target like {source_lang}. Swap the two sides of every text, or "
            "`source_lang` and `target_lang`."
        )
    notes = []
    for side, language in said.items():
        guess = guess_language(shares[side])
        if language in shares[side] and guess not in (None, language):
            notes.append(f"`{side}_lang` is {language}, but the {side} of the train text reads like {guess}")
    return notes


def are_swapped(shares: dict[str, dict[str, float]], said: dict[str, str | None]) -> bool:
    """Return whether one side clearly reads like the language of the other, and that side rather like this one's."""
    for side, other in (("source", "target"), ("target", "source")):
        own, its = shares[side], shares[other]
        expected, found = said[side], said[other]
        if found not in own or found not in its:
            continue
        if expected in own:
            if reads_like(own, found, expected) and its[expected] > CLEARLY * its[found]:
                return True
        elif guess_language(own) == found and own[found] > 2 * its[found]:
            return True
    return False


def language_shares(lines: Sequence[str]) -> dict[str, float]:
    """
    Return the share of a text's words that are in the list of each language, or of its letters in the script; nothing
    for a text that is too short to tell.
    """
    sample = "\n".join(lines[:: max(1, len(lines) // READ_LINES)]).lower()
    words, letters = WORD.findall(sample), LETTER.findall(sample)
    if max(len(words), len(letters) // 5) < ENOUGH_WORDS:
        return {}
    shares = {}
    for language, listed in FUNCTION_WORDS.items():
        found = [word for word in words if word in listed]
        shares[language] = len(found) / len(words) if len(set(found)) >= LEAST_WORDS else 0.0
    scripts = {language: len(script.findall(sample)) / len(letters) for language, script in SCRIPTS.items()}
    if scripts["ja"] > LEAST_SHARE:
        scripts["zh"] = 0.0  # Japanese has Chinese characters too
    return shares | scripts


def reads_like(shares: dict[str, float], language: str, other: str) -> bool:
    """Return whether a text clearly reads like one language and not like another."""
    return shares[language] >= max(LEAST_SHARE, CLEARLY * shares[other])


def guess_language(shares: dict[str, float]) -> str | None:
    """Return the language that a text clearly reads like, if there is one."""
    for language in shares:
        if all(reads_like(shares, language, other) for other in shares if other != language):
            return language
    return None
