"""Texts from an untrusted source for file names, fields, keys and messages, generated from a seed."""

import numpy as np

# kind -> the hostile part of a text
INSIDE = {
    "escape code": "\x1b[2J\x1b[1;31m",
    "title of the terminal": "\x1b]0;owned\x07",
    "C1 control": "\x9b31m",
    "new line": "\nERROR forged",
    "line of the log": "\n2030-01-01 00:00:00,000 INFO mAP 99.9",
    "carriage return": "\r00:00:00 INFO all is well",
    "other line breaks": "\x0b\x0c\x85\u2028\u2029",
    "backspace": "a\b\x7f",
    "right to left": "\u202egpj.exe\u202c",
    "isolate": "\u2066a\u2069",
    "invisible": "\u200b\u2060\ufeff",
    "no UTF-8": "\udcff\udc80",
    "NUL": "\0",
}
FORMULAS = (
    "=HYPERLINK(1)",
    "+1+1",
    "-1-1",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "\n=1",
    " =1",
    "'=1",
    "''-a",
    "\uff1d1",
    '=1,2"\n3',
)
HARMLESS = ("a.jpg", "'tis.jpg", "-1", "-1.5e-3", "+7", "a=b", "王小明.jpg", "")
LETTERS = ("Ünïcødé", "王小明", "Иван", "مَريم", "می‌خواهم", "क्षत्रिय", "ひらがな　全角", "a b", "ελ")
MATHEMATICS = (
    "$x$",
    r"$\frac{",
    "$",
    "a_b^c",
    r"\\",
    "王小明",
    "\U0001d518🚶",
    "x" * 4000,
    "line\nline",
    r"\usepackage{x}",
    "%&#~{}",
)


def hostile_texts(seed: int) -> list[str]:
    """One text of every kind, with random letters around it."""
    rng = np.random.default_rng(seed)

    def letters() -> str:
        return "".join(rng.choice(list("abcxyzÄ王и ")) for _ in range(rng.integers(1, 12)))

    return [f"{letters()}{inside}{letters()}" for inside in INSIDE.values()]


def hostile_names(seed: int) -> list[str]:
    """Hostile texts that can be file names."""
    return [f"{text.replace('/', '').strip()}.jpg" for text in hostile_texts(seed) if "\0" not in text]
