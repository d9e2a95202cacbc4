"""What a text needs besides its embedding: emoji spelled out, and how well an English encoder can read it."""

from __future__ import annotations

import re
import unicodedata

LONGEST = 2000
"""Characters that are read of one text; the encoder's 128 word pieces are about 600 characters of English."""

_MEANT = {
    "haha": "😂🤣",
    "angry": "😠😡🤬",
    "frustrated": "😤",
    "annoyed": "🙄",
    "disgusting": "🤢🤮",
    "sad": "🙁☹",
    "anxious": "😰",
    "love": "😘🥰",
    "hooray": "🎉🥳",
    "well done": "👏",
    "broken heart": "💔",
}
"""Emoji whose Unicode name says how they are drawn, and not what is meant: 😂 is FACE WITH TEARS OF JOY."""
_EMOJI = {emoji: words for words, several in _MEANT.items() for emoji in several}
_DULL = {"face", "sign", "symbol", "white", "black"}
"""Words in the names of the other emoji that say nothing about a mood."""

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")

_ENGLISH_WORDS = """
a about after again all also always am an and any are aren't as at away bad be because been before being best better
but by can can't come could couldn't day did didn't do does doesn't doing don't down even ever every feel feeling
first for from get getting go going good great guy had has hasn't have haven't having he he's hello her here hey him
his how i i'd i'll i'm i've if in into is isn't it it's its just know let let's life like little look lot love made
make makes many me more most much must my need never new no nobody not nothing now of off oh okay on one only or
other our out over people please quite really right said same say see she she's should so some someone something
sorry still stop such sure take thank thanks that that's the their them then there there's these they they're thing
things think this those time to today too try two up us very wait want was wasn't way we we're well were what what's
when where which while who why will with without won't would wow yeah yes yet you you're your
"""
_FOREIGN_WORDS = """
aber auch auf bist das dass dein dem der des dich dir doch ein eine einen einer es für ganz habe haben heute ich ihr
immer ist ja jetzt kein keine mein meine mich mir mit nicht nichts noch nur oder schon sehr sein sich sie sind und
uns viel von warum weil wenn wie wir wird zu zum zur
ale bardzo być ci co czy dla dobrze dziś gdzie ich jak jest jestem jeszcze już kiedy kto który ma mam mi mnie moja
moje mój nic nie niech od po przez przy się są ta tak tam te tego tej teraz tu twój ty tylko tym w wszystko za z że
au avec bien ce ces cette dans de des du elle en est et il ils je la le les leur mais merci moi mon ne nous ont où
par pas qu que qui sa se ses suis sur toi très tu un une vous
al como cuando del dónde el ella ellos eres eso esta este estoy fue gracias hay las lo los más mi mucho muy nada nos
para pero por porque puede qué quiero siempre soy su sus también te tengo tiene todo una usted y ya
anche che ci cosa così di dove è gli grazie ho il io la loro lui ma molto nel non nella perché più quando questa
questo sei sono tanto tutti tutto un una voi
aan als bij dat deze dit een en er geen het hij hoe ik je kan maar meer mijn naar niet nog ook op te uit veel voor
waar wat wel wij zijn
ao até com da das dos ela ele em eu foi isso mais meu minha muito não nós o obrigado os ou para pela quem são sem
seu sou tem um uma você
att av det där då ett för från här inte jag kan med mig mycket när och på som är
ama bir bu çok da de değil gibi için ile ki ne sen ve var yok
"""
"""German, Polish, French, Spanish, Italian, Dutch, Portuguese, Swedish, Turkish; none that is a word of English."""
_ENGLISH, _FOREIGN = frozenset(_ENGLISH_WORDS.split()), frozenset(_FOREIGN_WORDS.split())


def spell_out(text: str) -> str:
    """The text with emoji as words, its white space single, cut at `LONGEST` characters.

    The encoder's vocabulary has no emoji. Empty where nothing is left that could tell a mood: neither a letter nor an
    emoji.
    """
    spelled = "".join(_spell(character) for character in text[:LONGEST])
    return " ".join(spelled.split()) if any(map(str.isalpha, spelled)) else ""


def quality(spelled: str, *, fragments: int, lang: str | None = None) -> float:
    """How far an English encoder's answer on a spelled-out text can be trusted, 0..1: length × language.

    `fragments` is how many of its word pieces continue a word that the vocabulary does not have whole.
    Length is n / (n + 1) for n words. Language is what a sender's BCP 47 tag says, where there is one. Else it is the
    share of English in the signs that the words give: function words of English, and one to begin with, against
    function words of other languages, words with letters beyond ASCII, and half the fragments beyond one in two
    words, which English with its names has too; times the share of letters that are Latin. The weights were set by
    hand on twenty sentences.
    """
    words = [word.lower().replace("’", "'") for word in _WORD.findall(spelled)]
    length = len(words) / (len(words) + 1)
    if tag := _tagged(lang):
        return length * (1.0 if tag == "en" else 0.1)
    letters = [character for character in spelled if character.isalpha()]
    latin = sum("LATIN" in unicodedata.name(letter, "") for letter in letters) / len(letters)
    english = 1 + sum(word in _ENGLISH for word in words)
    foreign: float = sum(word in _FOREIGN for word in words) + sum(
        not word.replace("'", "").isascii() for word in words
    )
    foreign += max(0.0, fragments - 0.5 * len(words)) / 2
    return length * latin * english / (english + foreign)


def language(spelled: str, lang: str | None = None) -> str:
    """What a spelled-out text is in, as a primary subtag (BCP 47): what its tag says, else Chinese or English.

    Chinese is what `is_chinese`; the rest counts as English, and `quality` says how far it is.
    """
    return _tagged(lang) or ("zh" if is_chinese(spelled) else "en")


def _tagged(lang: str | None) -> str | None:
    """The primary subtag; None of tags that say only that the language is not known, or that there are several."""
    said = re.split("[-_]", lang.lower())[0] if lang else ""
    return None if said in ("", "und", "mul", "mis") else said


def is_chinese(spelled: str) -> bool:
    """Whether a spelled-out text is for a Chinese reader, by its characters.

    It is where there are at least as many Han characters as words in Latin letters, and neither kana nor hangul.
    """
    scripts = [_script(character) for character in spelled if character.isalpha()]
    return (
        scripts.count("CJK") > 0 and not {"HIRAGANA", "KATAKANA", "HANGUL"} & {*scripts} and _han_share(spelled) >= 0.5
    )


def quality_chinese(spelled: str) -> float:
    """How far a Chinese reader's answer can be trusted, 0..1: length × the share of Han characters.

    Length is n / (n + 2) for n characters, two of which make a word; a word in Latin letters counts as a character.
    """
    share = _han_share(spelled)
    n = sum(_script(character) == "CJK" for character in spelled)
    return n / (n + 2) * share


def _han_share(spelled: str) -> float:
    """Han characters among Han characters and words in other scripts."""
    han = sum(_script(character) == "CJK" for character in spelled if character.isalpha())
    others = sum(_script(word[0]) != "CJK" for word in _WORD.findall(spelled))
    return han / max(1, han + others)


def _script(letter: str) -> str:
    """First word of the letter's Unicode name, which is its script for most."""
    return unicodedata.name(letter, "").partition(" ")[0]


def _spell(character: str) -> str:
    if character < "\u2600" or unicodedata.category(character) not in ("So", "Sk"):
        return " " if character in "\u200d\ufe0f" else character
    if character in _EMOJI:
        return f" {_EMOJI[character]} "
    name = unicodedata.name(character, "")
    if name.startswith(("BRAILLE", "EMOJI MODIFIER", "REGIONAL INDICATOR")) or name in ("FEMALE SIGN", "MALE SIGN"):
        return " "
    if "HEART" in name and "FACE" not in name:
        return " love "  # of any colour
    return f" {' '.join(word for word in name.lower().split() if word not in _DULL)} "
