"""Names and texts as LaTeX."""

import unicodedata

__all__ = ["escaped", "letters", "parentheses", "plain"]

_ACCENTS = {"\u0302": r"\hat", "\u0303": r"\tilde", "\u0304": r"\bar", "\u0307": r"\dot"}


def plain(name: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFD", name) if not unicodedata.combining(c))


def letters(text: str) -> str:
    """A word of a name: Greek letters by their names, accents as commands, digits at the end as a subscript."""
    stem = text.rstrip("0123456789")
    digits = text[len(stem) :] if stem else ""
    stem = stem or text
    written = "".join(map(_letter, stem))
    if len(stem) > 1 and stem.isascii() and not stem.isdigit():
        written = rf"\mathrm{{{stem}}}"
    return f"{written}_{{{digits}}}" if digits else written


def _letter(letter: str) -> str:
    base, *marks = unicodedata.normalize("NFD", letter)
    text = base
    if "GREEK" in unicodedata.name(base, ""):
        word = unicodedata.name(base).split("LETTER ")[1].split(" WITH")[0].lower().replace("lamda", "lambda")
        capital = "CAPITAL" in unicodedata.name(base)
        text = "\\" + (word.capitalize() if capital else word)
        text = r"\varphi" if text == r"\phi" else text
    for mark in marks:
        text = rf"{_ACCENTS[mark]}{{{text}}}" if mark in _ACCENTS else text
    return text


def parentheses(text: str) -> str:
    tall = any(word in text for word in (r"\frac", r"\sum", r"\int", r"\prod", r"\begin", r"\left", r"^{e", r"\sqrt"))
    return rf"\left({text}\right)" if tall else f"({text})"


def escaped(text: str) -> str:
    return text.replace("_", r"\_")
