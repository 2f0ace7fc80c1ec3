"""Signs that the page and its charts share."""

MISSING = "\N{EN DASH}"  # for a value that is not known
MINUS = "\N{MINUS SIGN}"
