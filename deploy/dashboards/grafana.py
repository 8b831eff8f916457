"""Dashboard in Grafana's format, by grafana-foundation-sdk."""

from deploy.dashboards.panels import ROWS
from deploy.dashboards.queries import Panel
from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    GraphDrawStyle,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

UID = "steersman"
"""Identifier of the dashboard in a Grafana."""
SOURCE = DataSourceRef(type_val="prometheus", uid="${source}")
"""Prometheus that the dashboard's variable names."""

_WIDTH, _HEIGHT, _LOW = 8, 8, 4


def encoded() -> str:
    """The dashboard as JSON text."""
    built = (
        dashboard.Dashboard("Steersman")
        .uid(UID)
        .description("Controlled reasoning: requests, branches, tokens, thinking, steering.")
        .tags(["steersman", "vllm"])
        .readonly()
        .refresh("30s")
        .time("now-1h", "now")
        .timezone("browser")
        .tooltip(1)
        .with_variable(
            dashboard.DatasourceVariable("source").label("Prometheus").type("prometheus")
        )
        .with_variable(_variable("job", 'label_values(up{job=~".*steersman.*"}, job)'))
        .with_variable(_variable("instance", 'label_values(up{job=~"$job"}, instance)'))
    )
    for row in ROWS:
        built = built.with_row(dashboard.Row(row.title))
        for panel in row.panels:
            built = built.with_panel(_panel(panel))
    return JSONEncoder(sort_keys=True, indent=2).encode(built.build()) + "\n"


def _variable(name: str, query: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .query(query)
        .datasource(SOURCE)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .current(VariableOption(selected=True, text="All", value="$__all"))
        .all_value(".*" if name == "instance" else ".*steersman.*")
    )


def _panel(panel: Panel) -> stat.Panel | timeseries.Panel:
    built: stat.Panel | timeseries.Panel
    if panel.kind == "number":
        built = stat.Panel().height(_LOW)
    else:
        stacking = StackingMode.NORMAL if panel.stacked else StackingMode.NONE
        built = (
            timeseries.Panel()
            .height(_HEIGHT)
            .min(0)
            .draw_style(GraphDrawStyle.LINE)
            .fill_opacity(30 if panel.stacked else 0)
            .stacking(common.StackingConfig().mode(stacking).group("A"))
            .legend(
                common.VizLegendOptions()
                .display_mode(LegendDisplayMode.LIST)
                .placement(LegendPlacement.BOTTOM)
                .show_legend(True)
            )
            .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
        )
    built = (
        built.title(panel.title)
        .description(panel.meaning)
        .unit(panel.unit)
        .span(_WIDTH)
        .datasource(SOURCE)
    )
    for position, query in enumerate(panel.queries):
        target = (
            prometheus.Dataquery()
            .expr(query.expression)
            .legend_format(query.legend)
            .datasource(SOURCE)
            .ref_id(chr(ord("A") + position))
        )
        built = built.with_target(target.instant() if panel.kind == "number" else target.range())
    return built
