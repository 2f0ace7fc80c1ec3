import pytest

from datasets.readers.file_errors import FileErrors
from utils.errors import UserError

KEY = "To leave out what is damaged, with a warning: DATASETS.ON_BAD_IMAGE skip"


def collect(*messages):
    errors = FileErrors()
    for message in messages:
        errors.add(message)
    return errors


@pytest.mark.parametrize("on_bad_image", ["error", "skip"])
def test_no_error_is_no_word(caplog, on_bad_image):
    caplog.set_level("DEBUG")
    collect().raise_if_errors(on_bad_image)
    assert caplog.records == []


def test_keeps_the_messages_in_their_order():
    assert collect("b.jpg: small", "a.jpg: empty").messages == ["b.jpg: small", "a.jpg: empty"]
    assert collect().messages == []


def test_one_error_is_the_error():
    with pytest.raises(UserError) as caught:
        collect("a.jpg: empty").raise_if_errors("error")
    assert str(caught.value) == f"a.jpg: empty\n{KEY}"


def test_of_several_the_first_is_reported_and_the_others_counted():
    with pytest.raises(UserError) as caught:
        collect("a.jpg: empty", "b.jpg: small", "c.jpg: large").raise_if_errors("error")
    assert str(caught.value) == f"a.jpg: empty\n2 more such; of a data set, python -m datasets check lists them\n{KEY}"


@pytest.mark.parametrize(("count", "end"), [(1, "0.jpg: empty"), (5, "4.jpg: empty"), (6, "4.jpg: empty; ...")])
def test_skip_counts_and_quotes_the_first_five(caplog, count, end):
    errors = collect(*(f"{index}.jpg: empty" for index in range(count)))
    errors.raise_if_errors("skip")
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith(f"DATASETS.ON_BAD_IMAGE skip: left out {count}, 0.jpg: empty")
    assert record.getMessage().endswith(end)
    assert len(errors.messages) == count


def test_percent_signs_are_text(caplog):
    collect("100%s.jpg: empty").raise_if_errors("skip")
    assert caplog.records[0].getMessage().endswith("100%s.jpg: empty")
