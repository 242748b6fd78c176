"""Words of everyday English and the lexicon term each one speaks of, beyond the terms' own names and aliases."""

from functools import lru_cache

from affetto.conditioning.lexicon import ALIASES, LEXICON

WORDS: dict[str, str] = {
    "happy": "smile smiles smiled smiling grin grins grinning gladly happily happier happiest cheer cheers cheery "
    "cheerfully delight delightful sunny bright celebrate celebrated celebrating celebration",
    "joyful": "joyfully joyously rejoice rejoicing blissful bliss overjoyed jubilant",
    "enjoyment": "laugh laughs laughed laughing laughter giggle giggling hilarious funny enjoy enjoys enjoyed enjoying "
    "amusing lol haha hahaha",
    "excited": "excite exciting excitedly thrilling pumped hyped stoked eager eagerly can't-wait cannot-wait",
    "elated": "ecstatically over-the-moon on-cloud-nine",
    "triumphant": "won victory winning triumphantly we-did-it i-did-it champion champions",
    "proud": "proudly prouder proudest",
    "loved": "adore adores adored adoring loves lovely cherish cherished darling sweetheart",
    "in-love": "romance romantically head-over-heels",
    "affectionate": "hug hugs hugged hugging cuddle cuddles kiss kisses kissed warmly fond fondly",
    "tender": "tenderly gently soothing soothe softly",
    "grateful": "gratefully thank thanked thankfully appreciate appreciated appreciates",
    "hopeful": "hopes hoped hoping hopefully looking-forward",
    "relaxed": "relax relaxes unwind unwinding comfortable comfortably comfy cozy cosy at-peace laid-back phew",
    "calm": "calmly calming calmer peace peacefully tranquility quietly stillness",
    "serene": "serenely idyllic",
    "playful": "playfully mischievous silly goofy joking",
    "surprised": "surprises surprisingly unexpected unexpectedly suddenly wow whoa gosh omg out-of-nowhere "
    "caught-off-guard",
    "astonished": "astonishing astonishingly amaze amazes amazingly astounded astounding stunning flabbergasted "
    "speechless unbelievable incredible jaw-dropping shocking shock",
    "curious": "curiously wonder wonders intrigued intriguing",
    "interested": "interesting fascinating",
    "inspired": "inspire inspires inspiring uplifting uplifted",
    "determined": "determinedly resolutely steadfast never-give-up",
    "bold": "boldly bravely fearless fearlessly courage daring heroic",
    "powerful": "powerfully mighty unstoppable invincible",
    "sad": "sadly saddens saddened sadder saddest cry cries cried weep weeps weeping wept tears sob sobs sobbing "
    "mourn mourning mourned tragic tragedy tragically heartbreaking heart-breaking unhappily down-in-the-dumps "
    "feeling-blue feeling-down miss missed missing-you aching gloom bleak",
    "depressed": "depress depressing depressingly miserably dejected downcast in-the-dumps",
    "despairing": "despairs desperate desperately hopeless hopelessly devastated devastating inconsolable bereaved "
    "funeral broke-my-heart",
    "lonely": "alone lonesome isolated abandoned forsaken left-behind nobody-cares",
    "melancholic": "sombre somber mournful mournfully rueful",
    "nostalgic": "nostalgically remember-when good-old-days homesick",
    "discouraged": "disappoint disappointing disappoints disheartened let-down letdown failed failure",
    "regretful": "regrets regretted apologise apologize apologies forgive",
    "guilty": "my-fault blame-myself",
    "shamed": "disgrace disgraced disgraceful",
    "embarrassed": "embarrassing awkward awkwardly blush blushing mortified cringe",
    "hurt": "",
    "angry": "angrily angrier angriest angers angered yell yells yelled yelling shout shouts shouting shouted "
    "resent resents resentful resentment pissed pissed-off fed-up seething fuming bitter bitterly how-dare-you "
    "shut-up",
    "enraged": "enrage enraging infuriate infuriated infuriates infuriating outrage outrageous furiously rages raging "
    "sick-and-tired",
    "irritated": "irritate irritates irritating annoy annoys grumpy cranky ugh",
    "frustrated": "frustrate frustrates frustrating stuck fail",
    "hate": "hates hated hating hateful despise despised loathe loathes detest detests",
    "hostile": "hostilely enemy enemies revenge vengeance threaten threatens threatened",
    "cruel": "cruelly brutal brutally merciless ruthless vicious viciously",
    "fear": "fears feared fearfully scare scares scary frighten frightens frightening spooky creepy dread dreads "
    "dreaded dreading afraid scaring eerie",
    "terrified": "terrify terrifies terrifying terrifyingly horrifying horrific horrible-fear petrified panicking "
    "panics nightmare nightmares scream screams screamed screaming",
    "anxious": "anxiously worries worrying worrisome nervously uneasily jittery on-edge freaking-out",
    "tense": "tensely stressful stressing pressure on-tenterhooks",
    "startled": "startles startling jumped-out",
    "helpless": "helplessly powerless trapped",
    "overwhelmed": "overwhelming overwhelmingly too-much",
    "disgusted": "disgusts disgusting disgustingly gross yuck eww ew icky vile repulsive repulsed revolting "
    "repugnant sickening foul filthy",
    "nauseated": "nauseating nauseous queasy vomit vomiting puke",
    "contempt": "despicable pathetic worthless beneath-me contemptible",
    "scornful": "scornfully sneer sneers sneering mock mocks mocking ridicule ridiculous",
    "disdainful": "disdainfully condescending",
    "arrogant": "arrogantly smugly",
    "sarcastic": "sarcastically ironically yeah-right oh-great",
    "suspicious": "suspiciously distrust distrustful fishy jealously",
    "skeptical": "doubts doubted doubting dubious",
    "confused": "confuse confusing confuses bewildered baffled perplexed puzzling",
    "bored": "bore bores boredom tedious dull dreary monotonous boringly whatever yawn meh",
    "fatigued": "tiring exhausting drained worn-out burnt-out burned-out",
    "weary": "wearily wearisome",
    "lucky": "luckily fortunate fortunately",
    "pain": "pains hurts hurting agony ache aches painfully ouch",
    "distressed": "distressing distraught",
    "upset": "upsets upsetting",
    "anguished": "torment tormented torture tortured",
    "awed": "awe-inspiring breathtaking majestic magnificent sublime",
}
"""Forms by lexicon term; a form of several words is joined by hyphens."""

_NOT_IN_TEXT = (
    "ang con dis fea hap neu sur none normal no-emotion free kind like useful capable serious responsible influential "
    "protected secure sheltered modest reserved detached activated deactivated aroused concentrating hungry subdued "
    "strong alert quiet soft sick mad-about cool fun-fact focus focused interest energy epic trust impotent inhibited "
    "controlling cooperative devoted dignified reprehensible sinful burdened consoled crushed embattled shy"
)
"""Names and aliases that in running text mostly mean something else."""

_ALLOWED_AFTER_COPULA = "serious strong quiet secure sick shy focused crushed mad protected"
"""Those that do name an emotion after `feel` or `am`."""


@lru_cache(maxsize=1)
def word_terms() -> dict[str, str]:
    """Every form that names an emotion in running text, with its term; several words are joined by hyphens."""
    forms = {name: name for name in LEXICON if name != "neutral"}
    forms |= {alias: term for alias, term in ALIASES.items() if term != "neutral"}
    forms = {form: term for form, term in forms.items() if form not in _NOT_IN_TEXT.split()}
    for term, listed in WORDS.items():
        name = ALIASES.get(term, term)
        forms |= dict.fromkeys(listed.split(), name)
    for form, term in list(forms.items()):
        for other in _inflections(form):
            forms.setdefault(other, term)
    return forms


@lru_cache(maxsize=1)
def felt_terms() -> dict[str, str]:
    """Forms that name an emotion only where somebody is said to feel so."""
    return {
        form: ALIASES.get(form, form)
        for form in _ALLOWED_AFTER_COPULA.split()
        if ALIASES.get(form, form) in LEXICON
    }


SET_PHRASES = frozenset(("without-doubt", "no-doubt", "no-wonder", "no-worries"))
"""Phrases that hold an emotion word and name none."""


@lru_cache(maxsize=1)
def phrase_widths() -> dict[str, tuple[int, ...]]:
    """For each word that begins a phrase of several, how many words those have, longest first."""
    widths: dict[str, set[int]] = {}
    for form in (*word_terms(), *SET_PHRASES):
        first, *rest = form.split("-")
        if rest:
            widths.setdefault(first, set()).add(len(rest) + 1)
    return {first: tuple(sorted(found, reverse=True)) for first, found in widths.items()}


def _inflections(form: str) -> tuple[str, ...]:
    """Regular adverbs and nouns of an adjective: gloomy -> gloomily, gloominess."""
    if "-" in form or len(form) < 4 or form.endswith(("ly", "ness", "ing", "s")):
        return ()
    if form.endswith("y"):
        return (form[:-1] + "ily", form[:-1] + "iness")
    if form.endswith(("ed", "ful", "ous", "less", "ant", "ent", "ive", "ic", "al", "id", "able")):
        return (form + ("ally" if form.endswith("ic") else "ly"), form + "ness")
    return ()
