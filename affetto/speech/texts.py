"""Words to train on: sentences of our own in several languages, and pseudo-words full of sounds that lips tell apart."""

import re
from collections.abc import Sequence

import numpy as np

SENTENCES: dict[str, tuple[str, ...]] = {
    "en-us": (
        "My mum put a big blue pebble in the empty box by the pump.",
        "Bob may bring five ripe plums, but Pam never wants them.",
        "Will you move the wooden table, or should we leave it there?",
        "Ten tiny ducks went down the windy river at noon.",
        "Maybe the public bus stops near the museum, maybe it does not.",
        "Who knew that nobody remembered the number of the cabin?",
        "A warm wave of wind blew over the valley when we woke.",
        "Please do not tap the lamp, the bulb is about to break.",
        "She threw three thin feathers through the other window.",
        "I love the summer, the open water and the smell of apples.",
    ),
    "de": (
        "Bitte bring mir morgen einen bunten Ball und ein paar Pilze mit.",
        "Wir wollen im Winter über die weiße Wiese wandern.",
        "Mein Bruder baute neben dem Bahnhof ein kleines Puppenhaus.",
        "Niemand wusste, warum der Nebel am Abend plötzlich verschwand.",
        "Pünktlich um halb sieben klopfte Tante Paula an die Tür.",
        "Das Baby schläft, aber der Papagei plappert immer weiter.",
        "Komm, wir nehmen den Bus und bummeln durch die Altstadt.",
        "Dort drüben liegen die neuen Netze, die Opa gestern geflickt hat.",
        "Vielleicht wird es heute wärmer, doch abends bleibt es kühl.",
        "Ich möchte zwei Brötchen, ein Stück Butter und etwas Marmelade.",
    ),
    "fr": (
        "Mon papa prépare une bonne soupe aux pommes de terre.",
        "Le petit bateau blanc part demain vers la mer.",
        "Nous avons vu un beau pont de bois dans la vallée.",
        "Je ne veux pas monter, il fait trop chaud là-haut.",
    ),
    "es": (
        "Mi abuela compra pan blanco y manzanas por la mañana.",
        "El perro bebe agua bajo el puente mientras mi primo pinta.",
        "Vamos a la playa si no llueve esta tarde.",
        "Nadie sabe dónde dejó Pablo la bicicleta nueva.",
    ),
    "it": (
        "La mamma prepara un bel piatto di pasta per il bambino.",
        "Vorrei un bicchiere di vino e un po' di pane, per favore.",
        "Domani andiamo a nuotare nel lago vicino al bosco.",
    ),
    "pt-br": (
        "Minha prima comprou um bolo de banana para a festa.",
        "Não sei onde fica a ponte nova sobre o rio.",
        "Bom dia, posso abrir a porta um pouco?",
    ),
    "sv": ("Mamma bakar ett gott bröd på morgonen.", "Pappa bygger en liten båt vid bryggan."),
    "da": ("Bedstemor bager brød til børnene om morgenen.", "Vi mødes ved broen, når bussen kommer."),
    "pl": (
        "Mama piecze pyszny placek z jabłkami dla babci.",
        "Pan Bartek poszedł na pocztę przed południem.",
    ),
    "cs": ("Babička peče bábovku pro malého Pepu.", "Máma koupila nové boty a modrý batoh."),
    "ru": ("Мама купила белый хлеб и банку мёда.", "Папа работает в большом парке у моря."),
    "tr": ("Babam pazardan bol bol elma ve biber aldı.", "Bu sabah mavi bir kuş pencereme kondu."),
    "fi": ("Pappa pani ämpärin pöydälle ja meni pois.", "Me emme muista, mihin bussi pysähtyy."),
    "hu": ("A mama piros almát és barna kenyeret vett.", "Péter bácsi a padon pihen a parkban."),
    "id": ("Bapak membeli buku baru untuk ibu.", "Mobil biru itu berhenti di depan rumah."),
    "sw": ("Mama anapika chakula kizuri pamoja na bibi.", "Baba alipanda mti mbele ya nyumba."),
}
"""Sentences of our own by espeak-ng voice. Dutch and Afrikaans are left out on purpose: Dutch is the test language."""

_ONSETS = (
    "p",
    "b",
    "m",
    "n",
    "t",
    "d",
    "v",
    "w",
    "f",
    "k",
    "g",
    "l",
    "r",
    "s",
    "z",
    "sh",
    "h",
    "j",
    "pl",
    "br",
    "bl",
    "pr",
)
_ONSET_WEIGHTS = np.array([4, 4, 4, 3, 3, 3, 3, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1], float)
_NUCLEI = ("a", "e", "i", "o", "u", "ee", "oo", "ai", "oa", "ou", "ea", "aw")
_CODAS = ("", "", "", "", "n", "m", "p", "b", "t", "d", "l", "s", "mp", "nd", "f", "v", "k", "ng", "st")


def pseudo_sentence(rng: np.random.Generator, words: int) -> str:
    """Words that mean nothing, rich in p b m against n t d v w, spelled so that most languages can read them."""

    def syllable() -> str:
        onset = rng.choice(_ONSETS, p=_ONSET_WEIGHTS / _ONSET_WEIGHTS.sum())
        return str(onset) + str(rng.choice(_NUCLEI)) + str(rng.choice(_CODAS))

    spoken = ["".join(syllable() for _ in range(int(rng.integers(1, 4)))) for _ in range(words)]
    breaks = [", " if rng.random() < 0.1 else " " for _ in spoken]
    return "".join(word + gap for word, gap in zip(spoken, breaks, strict=True)).strip(" ,") + "."


def shuffled_words(rng: np.random.Generator, lines: Sequence[str], words: int) -> str:
    """Words of the given lines in random order: a language's sounds without sentences that could be learned by heart."""
    known = sorted({word for line in lines for word in re.findall(r"[^\W\d_']+", line)})
    chosen = [str(word) + ("," if rng.random() < 0.12 else "") for word in rng.choice(known, words)]
    return " ".join(chosen).strip(",") + "."
