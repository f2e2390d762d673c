"""
An English-Spanish phrasebook for `make demo`: a small synchronous grammar, written for this project.

Each rule builds an English sentence and its Spanish translation together, so that the corpus shows what translation
between these languages needs: articles and adjectives that agree in gender and number, adjectives after the noun (but
"buen" before it), ser for what something is and estar for the state it is in, verbs that carry the pronoun, and the
inverted marks. The sentences are a fixed list: the same in every run and on every machine.

The test part holds combinations that training never shows: a tenth of the pairs of noun and adjective, or of verb and
object, are held out, and every sentence that has one of them is a test sentence. Single words are all in training.
"""

import functools
import hashlib
import random
from collections.abc import Iterator
from typing import NamedTuple


def table(rows: str) -> list[tuple[str, ...]]:
    """The words of each row, between commas."""
    return [tuple(row.split()) for row in rows.split(", ")]


def pairs(texts: str) -> list[tuple[str, str]]:
    """English and Spanish on the sides of each equals sign, between slashes."""
    return [(english, spanish) for english, _, spanish in (text.partition(" = ") for text in texts.split(" / "))]


# English singular, plural, Spanish singular, plural, gender.
THINGS = table(
    "book books libro libros m, car cars coche coches m, house houses casa casas f, table tables mesa mesas f, chair "
    "chairs silla sillas f, door doors puerta puertas f, window windows ventana ventanas f, shirt shirts camisa "
    "camisas f, hat hats sombrero sombreros m, shoe shoes zapato zapatos m, kitchen kitchens cocina cocinas f, "
    "garden gardens jardín jardines m, box boxes caja cajas f, bottle bottles botella botellas f, glass glasses vaso "
    "vasos m, train trains tren trenes m, shop shops tienda tiendas f, hotel hotels hotel hoteles m, letter letters "
    "carta cartas f, clock clocks reloj relojes m"
)
PEOPLE = table(
    "boy boys niño niños m, girl girls niña niñas f, teacher teachers profesora profesoras f, doctor doctors médico "
    "médicos m, neighbor neighbors vecino vecinos m, aunt aunts tía tías f"
)
NAMES = [("Ana", "f"), ("Pedro", "m"), ("Lucía", "f"), ("Carlos", "m"), ("Elena", "f"), ("Miguel", "m")]

# English, Spanish masculine singular; the other three forms follow from it.
QUALITIES = table(  # what a thing is: ser
    "red rojo, white blanco, black negro, yellow amarillo, small pequeño, big grande, new nuevo, old viejo, cheap "
    "barato, expensive caro, pretty bonito, green verde"
)
STATES = table(  # the state a thing is in: estar
    "open abierto, closed cerrado, clean limpio, dirty sucio, broken roto, empty vacío, full lleno"
)
FEELINGS = table(  # the state a person is in: estar
    "tired cansado, happy contento, sick enfermo, worried preocupado, ready listo, sad triste"
)
# English base form, third person; Spanish for I, you, he or she, we, they.
VERBS = [
    ("buy", "buys", ("compro", "compras", "compra", "compramos", "compran")),
    ("sell", "sells", ("vendo", "vendes", "vende", "vendemos", "venden")),
    ("see", "sees", ("veo", "ves", "ve", "vemos", "ven")),
    ("clean", "cleans", ("limpio", "limpias", "limpia", "limpiamos", "limpian")),
    ("paint", "paints", ("pinto", "pintas", "pinta", "pintamos", "pintan")),
    ("look for", "looks for", ("busco", "buscas", "busca", "buscamos", "buscan")),
    ("want", "wants", ("quiero", "quieres", "quiere", "queremos", "quieren")),
    ("need", "needs", ("necesito", "necesitas", "necesita", "necesitamos", "necesitan")),
]
PRONOUNS = [("I", 0), ("You", 1), ("We", 3), ("They", 4)]
PLACES = pairs(
    "in the house = en la casa / in the garden = en el jardín / near the station = cerca de la estación / behind "
    "the church = detrás de la iglesia / next to the bank = al lado del banco"
)
FIXED = pairs(  # in the training part, with the sentence of the tutorial first
    "How are you? = ¿Cómo estás? / Hello! = ¡Hola! / Good morning! = ¡Buenos días! / Good night! = ¡Buenas noches! "
    "/ Thank you very much. = Muchas gracias. / See you tomorrow! = ¡Hasta mañana! / What is your name? = ¿Cómo te "
    "llamas? / Where do you live? = ¿Dónde vives? / I am fine, thank you. = Estoy bien, gracias. / I do not "
    "understand. = No entiendo. / Do you speak Spanish? = ¿Hablas español? / What time is it? = ¿Qué hora es? / "
    "Hi! = ¡Hola! / Good afternoon! = ¡Buenas tardes! / Good evening! = ¡Buenas tardes! / Goodbye! = ¡Adiós! / See "
    "you later! = ¡Hasta luego! / Welcome! = ¡Bienvenidos! / Happy birthday! = ¡Feliz cumpleaños! / Excuse me. = "
    "Perdón. / I am sorry. = Lo siento. / You are welcome. = De nada. / Please. = Por favor. / Thanks. = Gracias. "
    "/ Thank you. = Gracias. / Yes. = Sí. / No. = No. / Sorry. = Lo siento."
)
# Words that people type by themselves, and those that say the same whatever is beside them.
WORDS = {
    "people": "mother madre, father padre, brother hermano, sister hermana, son hijo, daughter hija, man hombre, "
    "woman mujer, friend amigo, family familia",
    "things": "house casa, school escuela, book libro, table mesa, door puerta, window ventana, city ciudad, "
    "street calle, car coche, train tren, money dinero, key llave, bed cama, kitchen cocina, letter carta",
    "food": "water agua, bread pan, milk leche, coffee café, apple manzana, egg huevo, cheese queso, rice arroz, "
    "fish pescado, sugar azúcar, salt sal, food comida",
    "nature": "dog perro, cat gato, horse caballo, bird pájaro, tree árbol, flower flor, sun sol, moon luna, "
    "sea mar, rain lluvia, snow nieve, fire fuego",
    "time": "today hoy, tomorrow mañana, yesterday ayer, now ahora, always siempre, never nunca, day día, "
    "night noche, week semana, month mes, year año, Monday lunes, Tuesday martes, Wednesday miércoles, "
    "Thursday jueves, Friday viernes, Saturday sábado, Sunday domingo",
    "numbers": "one uno, two dos, three tres, four cuatro, five cinco, six seis, seven siete, eight ocho, nine nueve, "
    "ten diez",
    "qualities": "red rojo, blue azul, green verde, white blanco, black negro, big grande, small pequeño, good bueno, "
    "bad malo, new nuevo, old viejo, happy feliz, sad triste, easy fácil",
    "others": "here aquí, love amor, life vida, work trabajo, help ayuda, music música, war guerra, peace paz",
}

TRAIN_SIZE, VALIDATION_SIZE, TEST_SIZE = 7000, 250, 500
# People say them far more often than that a hat is empty; of words that come once, BPE makes single letters.
FIXED_REPETITIONS, WORD_REPETITIONS = 20, 5
# Words and greetings as people type them, mostly in small letters and without marks. A batch holds pairs of one
# length, so that words by themselves, however many, are in few batches of an epoch: lists bring them into others.
TYPED_REPETITIONS, LIST_LENGTHS, LIST_SHARES = 100, (1, 2, 3, 4), (4, 1, 1, 1)


class Sentence(NamedTuple):
    """One pair, with the combinations of words that it shows."""

    english: str
    spanish: str
    combinations: tuple[tuple[str, str], ...] = ()


def say(english: str, spanish: str, shown: tuple[tuple[str, str], ...]) -> Sentence:
    """A pair that begins with a capital letter, behind the mark where Spanish has one."""
    mark = spanish[:1] if spanish[0] in "¿¡" else ""
    return Sentence(capitalized(english), mark + capitalized(spanish.removeprefix(mark)), shown)


def agree(adjective: str, gender: str, plural: bool) -> str:
    """The form of a Spanish adjective: rojo, roja, rojos, rojas; verde, verdes."""
    if adjective.endswith("o") and gender == "f":
        adjective = adjective[:-1] + "a"
    return adjective + "s" if plural else adjective


def article(gender: str, plural: bool, definite: bool) -> str:
    """el, la, los, las; un, una, unos, unas."""
    forms = ("el", "la", "los", "las") if definite else ("un", "una", "unos", "unas")
    return forms[2 * plural + (gender == "f")]


def a_or_an(phrase: str) -> str:
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def noun_phrase(
    noun: tuple[str, ...], adjective: tuple[str, ...] | None, plural: bool, definite: bool
) -> tuple[str, str]:
    """A noun with its article and perhaps an adjective: ("the red house", "la casa roja")."""
    english, spanish, gender = noun[plural], noun[2 + plural], noun[4]
    if adjective is not None and adjective[0] == "good":  # the one that comes before its noun
        good = "buen" if (gender, plural) == ("m", False) else agree("bueno", gender, plural)
        english, spanish = f"good {english}", f"{good} {spanish}"
    elif adjective is not None:
        english, spanish = f"{adjective[0]} {english}", f"{spanish} {agree(adjective[1], gender, plural)}"
    spanish = f"{article(gender, plural, definite)} {spanish}"
    if definite:
        return f"the {english}", spanish
    return (f"some {english}" if plural else a_or_an(english)), spanish


def capitalized(text: str) -> str:
    return text[0].upper() + text[1:]


def descriptions() -> Iterator[Sentence]:
    """The house is red. The red doors are not open. Is the big table clean?"""
    for noun in THINGS:
        for plural in (False, True):
            verb = "are" if plural else "is"
            for verbs, predicates in ((("es", "son"), QUALITIES), (("está", "están"), STATES)):
                for predicate in predicates:
                    for attribute in (None, *QUALITIES):
                        if attribute is not None and predicates is QUALITIES:
                            continue  # "The red house is white" says nothing
                        english, spanish = noun_phrase(noun, attribute, plural, definite=True)
                        state = agree(predicate[1], noun[4], plural)
                        shown = tuple((noun[0], word[0]) for word in (attribute, predicate) if word is not None)
                        yield say(f"{english} {verb} {predicate[0]}.", f"{spanish} {verbs[plural]} {state}.", shown)
                        yield say(
                            f"{english} {verb} not {predicate[0]}.", f"{spanish} no {verbs[plural]} {state}.", shown
                        )
                        yield say(f"{verb} {english} {predicate[0]}?", f"¿{verbs[plural]} {state} {spanish}?", shown)


def feelings() -> Iterator[Sentence]:
    """Ana is tired. The girls are not happy. Is Pedro sick? How tired Ana is!"""
    subjects = [(name, name, gender, False, name) for name, gender in NAMES]
    for noun in PEOPLE:
        for plural in (False, True):
            english, spanish = noun_phrase(noun, None, plural, definite=True)
            subjects.append((english, spanish, noun[4], plural, noun[0]))
    for english, spanish, gender, plural, key in subjects:
        verb, estar = ("are", "están") if plural else ("is", "está")
        for feeling in FEELINGS:
            state, shown = agree(feeling[1], gender, plural), ((key, feeling[0]),)
            yield say(f"{english} {verb} {feeling[0]}.", f"{spanish} {estar} {state}.", shown)
            yield say(f"{english} {verb} not {feeling[0]}.", f"{spanish} no {estar} {state}.", shown)
            yield say(f"{verb} {english} {feeling[0]}?", f"¿{estar} {state} {spanish}?", shown)
            yield say(f"How {feeling[0]} {english} {verb}!", f"¡Qué {state} {estar} {spanish}!", shown)


def actions() -> Iterator[Sentence]:
    """We buy the red car. The girl does not paint a chair. Does Carlos need the book?"""
    subjects = [(name, name, 2) for name, _ in NAMES]
    subjects += [("the " + noun[0], noun_phrase(noun, None, False, True)[1], 2) for noun in PEOPLE]
    subjects += [("the " + noun[1], noun_phrase(noun, None, True, True)[1], 4) for noun in PEOPLE]
    for base, third, spanish_forms in VERBS:
        for noun in THINGS:
            for attribute in (None, ("good", "bueno"), *QUALITIES):
                for plural, definite in ((False, True), (False, False), (True, True), (True, False)):
                    english, spanish = noun_phrase(noun, attribute, plural, definite)
                    shown: tuple[tuple[str, str], ...] = ((base, noun[0]),)
                    if attribute is not None:
                        shown += ((noun[0], attribute[0]),)
                    for pronoun, person in PRONOUNS:
                        verb = spanish_forms[person]
                        yield say(f"{pronoun} {base} {english}.", f"{verb} {spanish}.", shown)
                        yield say(f"{pronoun} do not {base} {english}.", f"No {verb} {spanish}.", shown)
                    for subject, sujeto, person in subjects:
                        verb, does = spanish_forms[person], "does" if person == 2 else "do"
                        form = third if person == 2 else base
                        yield say(f"{subject} {form} {english}.", f"{sujeto} {verb} {spanish}.", shown)
                        yield say(f"{does} {subject} {base} {english}?", f"¿{verb} {sujeto} {spanish}?", shown)


def places() -> Iterator[Sentence]:
    """Where is the small shop? The red boxes are in the garden. What a pretty house!"""
    for noun in THINGS:
        for attribute in (None, *QUALITIES):
            shown = () if attribute is None else ((noun[0], attribute[0]),)
            for plural in (False, True):
                english, spanish = noun_phrase(noun, attribute, plural, definite=True)
                verb, estar = ("are", "están") if plural else ("is", "está")
                yield say(f"Where {verb} {english}?", f"¿Dónde {estar} {spanish}?", shown)
                cost, costs = ("do", "cuestan") if plural else ("does", "cuesta")
                yield say(f"How much {cost} {english} cost?", f"¿Cuánto {costs} {spanish}?", shown)
                for place, lugar in PLACES:
                    if noun[0] in place:
                        continue
                    yield say(f"{english} {verb} {place}.", f"{spanish} {estar} {lugar}.", shown)
            if attribute is not None:
                phrase = a_or_an(f"{attribute[0]} {noun[0]}")
                yield say(f"What {phrase}!", f"¡Qué {noun[2]} tan {agree(attribute[1], noun[4], False)}!", shown)


def greetings() -> Iterator[Sentence]:
    """The fixed phrases, single words, and greetings with a name."""
    for english, spanish in FIXED * FIXED_REPETITIONS:
        yield Sentence(english, spanish)
    for pair in ", ".join(WORDS.values()).split(", ") * WORD_REPETITIONS:
        english, spanish = pair.split()
        yield Sentence(f"{capitalized(english)}.", f"{capitalized(spanish)}.")
    for name, _ in NAMES:
        yield Sentence(f"Hello, {name}!", f"¡Hola, {name}!")
        yield Sentence(f"Good morning, {name}!", f"¡Buenos días, {name}!")
        yield Sentence(f"Thank you, {name}.", f"Gracias, {name}.")


def typed() -> Iterator[tuple[str, str]]:
    """Words by themselves and in short lists, and the fixed phrases, as people type them: "house", "house, dog"."""
    draw = random.Random(2017)
    words = [pair.split() for pair in ", ".join(WORDS.values()).split(", ")]
    phrases = [(english.strip("?!.").lower(), spanish.strip("¿?¡!.").lower()) for english, spanish in FIXED]
    for _ in range(TYPED_REPETITIONS):
        yield from phrases
        for word in words:
            (length,) = draw.choices(LIST_LENGTHS, LIST_SHARES)
            beside = [other for other in draw.sample(words, length - 1) if other != word]
            english, spanish = zip(word, *beside, strict=True)
            yield ", ".join(english), ", ".join(spanish)


def fraction(text: str) -> float:
    """A number in [0, 1) that belongs to a text, the same everywhere and unlike its neighbours'."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def is_held_out(combination: tuple[str, str]) -> bool:
    return fraction(" + ".join(combination)) < 0.1


@functools.cache
def phrasebook() -> dict[str, list[tuple[str, str]]]:
    """
    The corpus: `{"train": [(english, spanish), ...], "validation": [...], "test": [...]}`.

    Greetings and words are all in training, the fixed ones many times; no other sentence comes twice. Of each rule the
    sentences with the smallest hashes are taken, as many of one rule as of another where it has so many.
    """
    taken: dict[str, list[list[Sentence]]] = {"seen": [], "unseen": []}
    for rule in (descriptions, feelings, actions, places):
        ordered = sorted(rule(), key=lambda sentence: fraction(sentence.english))
        unseen = [any(map(is_held_out, sentence.combinations)) for sentence in ordered]
        taken["seen"].append([sentence for sentence, held_out in zip(ordered, unseen, strict=True) if not held_out])
        taken["unseen"].append([sentence for sentence, held_out in zip(ordered, unseen, strict=True) if held_out])

    # Shortest rule first: what it lacks goes to the others.
    def share(rules: list[list[Sentence]], size: int) -> list[tuple[str, str]]:
        chosen: list[Sentence] = []
        for done, sentences in enumerate(sorted(rules, key=len)):
            chosen += sentences[: (size - len(chosen)) // (len(rules) - done)]
        chosen.sort(key=lambda sentence: fraction(sentence.spanish))
        return [(sentence.english, sentence.spanish) for sentence in chosen]

    fixed = [(sentence.english, sentence.spanish) for sentence in greetings()]
    seen = share(taken["seen"], TRAIN_SIZE + VALIDATION_SIZE - len(fixed))
    return {
        "train": fixed + seen[VALIDATION_SIZE:],
        "validation": seen[:VALIDATION_SIZE],
        "test": share(taken["unseen"], TEST_SIZE),
    }


@functools.cache
def everyday() -> dict[str, list[tuple[str, str]]]:
    """The phrasebook whose training part also has words and greetings as people type them."""
    return {**phrasebook(), "train": [*phrasebook()["train"], *typed()]}
