"""report.html: one self-contained page for a finished test, or for several that are compared; and the model card.

Hands out About, LiveReport, write_report and write_card, each imported on first use.

    record       report_data.json: what only the running test knows, checked when it is read
    collect      fills it: distances, ranked galleries, attention maps, corruptions of the queries
    live         writes both during a test
    lenient      reads files field by field: a damaged one is left out and named
    schema       the fields of results.json and history.json
    run          a finished OUTPUT_DIR: results, per-query metrics, history, configuration
    findings     weakest family, worst-hit query, the corruption matrix
    sets, charts what the page says of each data set: tables and figures
    plots        line charts and histograms as inline SVG
    page, card   the page and the model card, from templates/
"""

import utils  # noqa: F401, I001  first, for the environment
import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "card": ["write_card"],
        "live": ["LiveReport"],
        "page": ["write_report"],
        "record": ["About"],
    },
)
