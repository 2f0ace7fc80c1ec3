"""Every table that the project prints: aligned for a terminal, and Markdown as it stands."""

from collections.abc import Iterable, Sequence

WIDTH = 78  # characters of a table in the log, which indents it by two
ALIGNMENTS = {"l": "left", "r": "right"}


def make_table(
    header: Sequence[str],
    rows: Iterable[Sequence[object]],
    align: str,
    *,
    layout: str = "pipe",
    wrap: int | None = None,
    width: int = WIDTH,
) -> str:
    """A table as text.

    Args:
        header: a title for each column.
        rows: cells, written as str() gives them.
        align: "l" (text) or "r" (numbers) for each column; the last letter holds for the columns that follow.
        layout: a `tablefmt` of tabulate; "pipe" is Markdown.
        wrap: the column, from 0, whose texts go on in further rows where the table would be wider than `width`. A word
            that is longer than the column stays whole.
        width: characters of the table with `wrap`; without, a table is as wide as its texts.
    """
    import tabulate  # here: --help needs no tables

    tabulate.MIN_PADDING = 0  # a column is as wide as its widest cell
    texts = [[str(cell) for cell in row] for row in (header, *rows)]
    if layout == "pipe":
        texts = [[cell.replace("|", "\\|") for cell in row] for row in texts]
    titles, *cells = texts
    columns = [ALIGNMENTS[letter] for letter in _letters(align, len(titles))]
    most: list[int | None] | None = None
    if wrap is not None:
        most = [None] * len(titles)
        widest = [max(map(len, column)) for column in zip(*texts, strict=True)]
        most[wrap] = max(1, width - sum(widest) + widest[wrap] - len(" | ") * len(titles) - 1)
    return tabulate.tabulate(
        cells,
        titles,
        tablefmt=layout,
        disable_numparse=True,
        colalign=columns if cells else None,
        maxcolwidths=most,
        break_long_words=False,
        break_on_hyphens=False,
    )


def make_tables(
    header: Sequence[str], rows: Iterable[Sequence[object]], align: str, *, keys: int = 1, width: int = WIDTH
) -> str:
    """`make_table`, as several tables below each other where one would be wider than `width`.

    Each repeats the first `keys` columns, and has at least one more.
    """
    rows = [list(row) for row in rows]
    needed = [max(len(str(row[column])) for row in (header, *rows)) + len(" | ") for column in range(len(header))]
    letters, shared = _letters(align, len(header)), list(range(keys))
    groups: list[list[int]] = [[]]
    for column in range(keys, len(header)):
        if groups[-1] and sum(needed[one] for one in (*shared, *groups[-1], column)) + 1 > width:
            groups.append([])
        groups[-1].append(column)
    return "\n\n".join(
        make_table(
            [header[column] for column in columns],
            [[row[column] for column in columns] for row in rows],
            "".join(letters[column] for column in columns),
        )
        for columns in (shared + group for group in groups)
    )


def _letters(align: str, count: int) -> str:
    return align.ljust(count, align[-1])[:count]
