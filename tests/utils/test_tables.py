"""Tables: aligned text that is Markdown as it stands, and no wider than a terminal."""

from utils.tables import WIDTH, make_table, make_tables


def test_a_table_is_markdown():
    assert make_table(["model", "mAP"], [["a|b", "9.50"], ["clean", "81.25 ± 0.40"]], "lr").splitlines() == [
        "| model |          mAP |",
        "|:------|-------------:|",
        "| a\\|b  |         9.50 |",
        "| clean | 81.25 ± 0.40 |",
    ]


def test_texts_that_look_like_numbers_stay_texts():
    assert make_table(["a", "b"], [["007", "1e3"], ["", 1.50]], "l").splitlines()[2:] == [
        "| 007 | 1e3 |",
        "|     | 1.5 |",
    ]


def test_the_last_letter_of_align_holds_for_the_columns_that_follow():
    assert make_table(["a", "b", "c"], [["x", "y", "z"]], "lr").splitlines()[1] == "|:--|--:|--:|"


def test_a_wide_table_becomes_several():
    header = ["variant", *(f"column {number}" for number in range(12))]
    rows = [[name, *(f"{number}.00" for number in range(12))] for name in ("base", "better")]
    found = make_tables(header, rows, "lr")
    assert all(len(line) <= WIDTH for line in found.splitlines())
    tables = [table.splitlines() for table in found.split("\n\n")]
    cells = [[[cell.strip() for cell in line.split("|")[1:-1]] for line in (table[0], *table[2:])] for table in tables]
    joined = [[cell for table in cells for cell in table[row][1:]] for row in range(3)]
    assert joined == [header[1:], rows[0][1:], rows[1][1:]]
    assert all([row[0] for row in table] == ["variant", "base", "better"] for table in cells)


def test_a_column_that_is_too_wide_stands_alone():
    found = make_tables(["a", "b", "c"], [["x", "y" * 100, "z"]], "l", width=20)
    assert [len(table.splitlines()[0]) > 20 for table in found.split("\n\n")] == [True, False]


def test_a_wide_column_goes_on_in_further_rows():
    rows = [["stage clean", "a, half-clean, c|d, " + "e" * 20, "1 s"], ["test", "a", "20 s"]]
    assert make_table(["job", "variants", "time"], rows, "llr", wrap=1, width=40).splitlines() == [
        "| job         | variants             | time |",
        "|:------------|:---------------------|-----:|",
        "| stage clean | a, half-clean,       |  1 s |",
        "|             | c\\|d,                |      |",
        "|             | eeeeeeeeeeeeeeeeeeee |      |",
        "| test        | a                    | 20 s |",
    ]


def test_a_table_that_fits_is_not_wrapped():
    rows = [["a", "b c d", 1]]
    unwrapped = make_table(["x", "y", "z"], rows, "llr")
    assert make_table(["x", "y", "z"], rows, "llr", wrap=1, width=len(unwrapped.splitlines()[0])) == unwrapped
    assert make_table(["x", "y", "z"], [], "llr", wrap=1, width=0) == make_table(["x", "y", "z"], [], "llr")
