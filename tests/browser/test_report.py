"""report.html in a real browser: nothing is fetched, tables, heat map, filters, colour schemes, widths, print."""

import contextlib
import json
import shutil

import pytest

from config import get_defaults
from processor.report import write_report
from tests.processor.small_report import COMMAND

pytestmark = pytest.mark.browser

WIDTHS, SCHEMES = (360, 1400), ("light", "dark")
# Relative luminance and contrast: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio
CONTRAST = """([selector, on]) => {
  const light = (colour) => {
    const parts = colour.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255);
    const [r, g, b] = parts.map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const style = (found) => getComputedStyle(document.querySelector(found));
  const [a, b] = [light(style(selector).color), light(style(on).backgroundColor)].sort((x, y) => y - x);
  return (a + 0.05) / (b + 0.05);
}"""


HEAT_CONTRASTS = """() => {
  const context = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const luminance = (colour) => {
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...context.getImageData(0, 0, 1, 1).data].slice(0, 3).map((v) => v / 255)
      .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const table = document.querySelector("table.heatmap"), cell = table.querySelector("td.heat");
  return [...Array(101).keys()].map((percent) => {
    cell.style.setProperty("--heat", percent / 100);
    cell.classList.toggle("hot", percent / 100 > 0.71);
    const style = getComputedStyle(cell);
    const [a, b] = [luminance(style.color), luminance(style.backgroundColor)].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  });
}"""


@contextlib.contextmanager
def opened(browser, report, *, width=1400, scheme="light", javascript=True, name="report.html"):
    """The page; at the end, nothing may have been fetched and no error may be in the console."""
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, java_script_enabled=javascript
    )
    page, errors = context.new_page(), []
    page.on("request", lambda request: errors.append(request.url))
    page.on("console", lambda message: errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    address = (report[0] / name).as_uri()
    page.goto(address)
    yield page
    context.close()
    assert [error for error in errors if error != address and not error.startswith("data:")] == []


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_both_schemes_and_widths(browser, report, width, scheme):
    with opened(browser, report, width=width, scheme=scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for details in page.locator("details").all():
            details.evaluate("element => { element.open = true; }")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
        for selector, on in (
            ("h1", "body"),
            ("caption", "body"),
            ("nav a", "body"),
            (".card h3", ".card"),
            (".drop", "body"),
        ):
            assert page.evaluate(CONTRAST, [selector, on]) >= 4.5, selector
        ink = page.locator("svg.plot text").first.evaluate("element => getComputedStyle(element).fill")
        assert ink == page.evaluate("getComputedStyle(document.body).color")
        assert page.locator("svg.plot").first.bounding_box()["width"] <= width


@pytest.mark.parametrize("width", WIDTHS)
def test_a_comparison_fits_too(browser, report, width, tmp_path):
    other = shutil.copytree(report[0], tmp_path / "another_run_with_a_long_name")
    write_report([report[0], other], defaults=get_defaults().dump(), out=report[0] / "comparison.html")
    with opened(browser, report, width=width, name="comparison.html") as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("#headline tbody tr").count() == 2 * len(report[1]["protocols"])
        run = page.locator("#headline td.text").first.bounding_box()
        assert run["width"] > 80


def test_tables_hold_the_numbers_of_results_json(browser, report):
    with opened(browser, report) as page:
        rows = page.locator("#headline tbody tr").all()
        for row, (name, means) in zip(rows, report[1]["protocols"].items(), strict=True):
            assert row.locator("th").inner_text() == name.replace("_", " ")
            shown = [cell.inner_text().split()[0] for cell in row.locator("td").all()]
            assert shown == [f"{100 * means[metric]['mean']:.1f}" for metric in ("mAP", "rank1")]


def test_the_first_screen_answers_the_first_questions(browser, report):
    with opened(browser, report) as page:
        for found in ("#headline", "#weakest-family", "#worst-query", "#repeat"):
            box = page.locator(found).bounding_box()
            assert box["y"] + box["height"] <= 800, found
        assert page.locator("#command").inner_text() == COMMAND
        page.locator("button[data-copy]").click()
        assert page.locator("button[data-copy]").inner_text() == "Copied"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_cell_of_the_heat_map_can_be_read(browser, report, scheme):
    with opened(browser, report, scheme=scheme) as page:
        for cell in page.locator("#heatmap-1-mAP td.heat").all():
            heat = float(cell.evaluate("element => element.style.getPropertyValue('--heat')"))
            assert cell.evaluate("element => element.classList.contains('hot')") == (heat > 0.71)
        contrasts = page.evaluate(HEAT_CONTRASTS)
        assert len(contrasts) == 101
        assert min(contrasts) >= 4.5


def test_heat_map_by_mouse_and_by_keyboard(browser, report):
    matrix = report[1]["matrix"]
    with opened(browser, report) as page:
        table = page.locator("#heatmap-1-mAP")
        fog = table.locator("tr", has=page.locator("th", has_text="fog")).locator("td")
        assert not fog.nth(1).locator(".tip").is_visible()
        fog.nth(1).hover()
        assert f"fog, severity 4: mAP {100 * matrix['mAP']['fog'][1]:.2f}" in fog.nth(1).locator(".tip").inner_text()
        page.mouse.move(0, 0)
        assert table.locator("td[tabindex='0']").count() == 1  # one stop of the tab key, then arrow keys
        table.locator("td[tabindex='0']").focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowRight")
        assert fog.nth(1).evaluate("element => element === document.activeElement")
        assert fog.nth(1).locator(".tip").is_visible()
        assert not page.locator("#heatmap-1-rank1").is_visible()
        page.locator("#heatmap input[value='rank1']").first.check()
        assert page.locator("#heatmap-1-rank1").is_visible()
        assert not table.is_visible()


@pytest.mark.parametrize("javascript", [True, False])
def test_filters_of_the_gallery(browser, report, javascript):
    with opened(browser, report, javascript=javascript) as page:
        queries = page.locator("article.query")
        total = queries.count()
        assert total == 4
        for name in ("family", "fate"):
            shown = 0
            for choice in page.locator(f"input[name='gallery-{name}']:not([value='all'])").all():
                choice.check()
                shown += sum(query.is_visible() for query in queries.all())
            assert shown == total, name
            page.locator(f"input[name='gallery-{name}'][value='all']").check()
        assert sum(query.is_visible() for query in queries.all()) == total


@pytest.mark.parametrize("javascript", [True, False])
def test_a_filter_shows_folded_queries(browser, report, javascript, tmp_path):
    directory = shutil.copytree(report[0], tmp_path / "run")
    record = json.loads((directory / "report_data.json").read_text())
    record["sets"]["rendered"]["galleries"] *= 4
    (directory / "report_data.json").write_text(json.dumps(record))
    write_report([directory], defaults=get_defaults().dump())
    with opened(browser, (directory, None), javascript=javascript) as page:
        queries = page.locator("article.query")

        def visible():
            return sum(query.is_visible() for query in queries.all())

        assert (queries.count(), visible()) == (16, 10)
        shown = 0
        for choice in page.locator("input[name='gallery-fate']:not([value='all'])").all():
            choice.check()
            shown += visible()
        assert shown == 16


def test_a_table_that_goes_on_says_so(browser, report):
    cue = "element => getComputedStyle(element, '::before').content"
    for width, wide in ((360, True), (1400, False)):
        with opened(browser, report, width=width) as page:
            region = page.locator("#protocols .scroll")
            page.wait_for_timeout(100)
            assert region.evaluate("element => element.scrollWidth > element.clientWidth") == wide
            assert ("scroll sideways" in region.evaluate(cue)) == wide


def test_a_phone_shows_names_and_values(browser, report):
    with opened(browser, report, width=360) as page:
        for cell in page.locator("#configuration tbody tr:first-child td, #run tbody td").all():
            assert cell.bounding_box()["width"] >= 80
        for name in page.locator(".whole:visible").all():
            box = name.bounding_box()
            assert box["x"] + box["width"] <= 360
            assert len(name.evaluate("element => [...element.getClientRects()]")) <= 1
        assert page.evaluate("document.documentElement.scrollHeight") < 20_000


def test_everything_is_there_without_javascript(browser, report):
    with opened(browser, report, javascript=False) as page:
        assert not page.locator("button[data-copy]").is_visible()
        assert page.locator("#heatmap-1-mAP td[tabindex='0']").count() == page.locator("#heatmap-1-mAP td").count()
        page.locator("#configuration summary").click()
        assert page.locator("#configuration details pre").is_visible()


def test_right_and_wrong_differ_by_more_than_colour(browser, report):
    with opened(browser, report) as page:
        style = "element => getComputedStyle(element).outlineStyle"
        for kind, line, mark in (("right", "solid", "✓"), ("wrong", "dashed", "✗")):
            match = page.locator(f"li.{kind}").first
            assert match.locator("img").evaluate(style) == line
            assert mark in match.inner_text()
        assert page.locator(".row > .cell img").first.evaluate(style) == "none"


def test_print(browser, report):
    with opened(browser, report, scheme="dark") as page:
        page.emulate_media(media="print")
        assert not page.locator("nav").is_visible()
        assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
        assert page.locator("#configuration details pre").evaluate("element => element.checkVisibility()")
        assert page.pdf().startswith(b"%PDF")
