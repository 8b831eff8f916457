"""The dashboard drawn from scraped series: made-up ones for some of its queries."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests import dashboard
from tests.soak import board


class Scraped:
    """Stands for a Prometheus that knows the queries of some panels."""

    def __init__(self, titles: Sequence[str]) -> None:
        self.known = {
            dashboard.filled(query, "1m")
            for panel in dashboard.panels()
            for query in panel.queries.values()
            if panel.title in titles
        }

    def over(
        self, expression: str, start: float, end: float, step: float
    ) -> list[tuple[Mapping[str, str], list[tuple[float, float]]]]:
        assert step > 0
        if expression not in self.known:
            return []
        return [
            ({"method": name}, [(start, 1.0), ((start + end) / 2, float("nan")), (end, 2.0)])
            for name in ("plain", "majority")
        ]


def test_every_panel_is_drawn_and_those_without_data_are_named(tmp_path: Path) -> None:
    titles = [panel.title for panel in dashboard.panels()]
    known = [titles[0], "Controlled requests by method", "KV cache in use"]
    scraped: Any = Scraped(known)
    picture = tmp_path / "new" / "dashboard.png"
    empty = board.draw(scraped, 1000.0, 1600.0, picture)
    assert empty == [title for title in titles if title not in known]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_lines_of_a_stack_stand_on_those_before_them() -> None:
    lines = {"a": [(0.0, 1.0), (1.0, float("nan"))], "b": [(0.0, 2.0), (1.0, 3.0)]}
    assert board.stacked(lines) == {"a": [1.0, 0.0], "b": [3.0, 3.0]}


def test_a_legend_is_filled_in_from_the_labels() -> None:
    assert board.named("{{reward}}: {{fault}}", {"reward": "verify"}) == "verify: "
