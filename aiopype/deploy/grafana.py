"""Dashboards in the form in which Grafana keeps them: JSON, made with Grafana's own SDK."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from aiopype.deploy import grafana_rows as rows
from aiopype.deploy.grafana_flow import manager_rows
from aiopype.deploy.grafana_overview import overview
from aiopype.deploy.grafana_panels import Look, Panel, PanelRow
from aiopype.deploy.grafana_queries import STATES, Query
from aiopype.deploy.prometheus_alerts import RUNBOOK, runbook_url
from aiopype.pipelines import Pipelines
from aiopype.states import State

__all__ = ["BOARD", "board", "flow_board", "flow_rows", "general_rows"]

#: The board for every flow is called so.
BOARD = "aiopype"

_SOURCE = models.DataSourceRef("prometheus", "${datasource}")
_COLOURS = {
    State.ENDED: "text",
    State.RUNNING: "green",
    State.RESTARTING: "orange",
    State.QUARANTINED: "red",
}
_COLUMNS = 24
_LETTERS = "ABCDEFGH"
#: Of a board's `uid`.
_LONGEST = 40

_Builder = timeseries.Panel | stat.Panel | statetimeline.Panel | table.Panel


def general_rows() -> tuple[PanelRow, ...]:
    """Return the rows of the board for every flow."""
    return (overview(), rows.pipeline(), rows.sources(), rows.kafka(), rows.process())


def flow_rows(pipelines: Pipelines) -> tuple[PanelRow, ...]:
    """Return the rows of a flow's own board: those of `general_rows`, and one a manager."""
    first, *others = general_rows()
    return (first, *manager_rows(pipelines), *others)


def board(runbook: str = RUNBOOK) -> str:
    """Return the board for every flow, as JSON.

    Arguments:
        runbook: where `docs/runbook.md` is read, a URL; the panels link to its paragraphs.
    """
    flow = _choice("flow", "label_values(aiopype_worker_ready, flow)")
    about = "All flows of aiopype: choose one, a manager, a component or a worker above."
    return _json(BOARD, "aiopype", about, (flow, *_choices()), general_rows(), runbook)


def flow_board(flow: str, pipelines: Pipelines, runbook: str = RUNBOOK) -> str:
    """Return a flow's own board, as JSON; the arguments are those of `board`, and the flow's.

    Arguments:
        flow: its name, which is the label `flow` of its metrics.
        pipelines: its managers.
    """
    only = models.VariableOption(text=flow, value=flow, selected=True)
    chosen = dashboard.CustomVariable("flow").values(flow).options([only]).current(only)
    chosen.hide(models.VariableHide.HIDE_VARIABLE)
    about = f"The flow {flow}: a row for each manager, its components in the order of the graph."
    choices = (chosen, *_choices())
    return _json(_uid(flow), f"aiopype: {flow}", about, choices, flow_rows(pipelines), runbook)


def _json(
    uid: str,
    title: str,
    about: str,
    variables: Iterable[Builder[models.VariableModel]],
    content: Iterable[PanelRow],
    runbook: str,
) -> str:
    made = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(about)
        .tags(["aiopype"])
        .readonly()
        .time("now-1h", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("data").type("prometheus"))
        .annotation(_alerts())
    )
    for variable in variables:
        made.with_variable(variable)
    for panel in _placed(content, runbook):
        if isinstance(panel, dashboard.Row):
            made.with_row(panel)
        else:
            made.with_panel(panel)
    return json.dumps(made.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def _choices() -> Iterator[dashboard.QueryVariable]:
    managers = 'aiopype_manager_state{flow=~"$flow"}'
    components = 'aiopype_events_total{flow=~"$flow",manager=~"$manager"}'
    yield _choice("manager", f"label_values({managers}, manager)")
    yield _choice("component", f"label_values({components}, component)")
    yield _choice("instance", 'label_values(aiopype_worker_ready{flow=~"$flow"}, instance)')


def _choice(name: str, query: str) -> dashboard.QueryVariable:
    every = models.VariableOption(text=["All"], value=["$__all"], selected=True)
    return (
        dashboard.QueryVariable(name)
        .query(query)
        .datasource(_SOURCE)
        .multi(True)
        .include_all(True)
        .current(every)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
    )


def _alerts() -> dashboard.AnnotationQuery:
    """Return the query of what stands behind the lines: when an alert fired."""
    firing = 'ALERTS{alertname=~"Aiopype.*",alertstate="firing",flow=~"$flow|"}'
    found = dashboard.AnnotationQuery().name("Alerts").datasource(_SOURCE).enable(True)
    return found.icon_color("red").expr(firing)


def _placed(content: Iterable[PanelRow], runbook: str) -> Iterator[_Builder | dashboard.Row]:
    """Yield rows and panels with their numbers and places, from left to right."""
    number, y = 0, 0
    for row in content:
        number += 1
        yield dashboard.Row(row.title).id(number).grid_pos(models.GridPos(1, _COLUMNS, 0, y))
        x, y, height = 0, y + 1, 0
        for panel in row.panels:
            number += 1
            if x + panel.width > _COLUMNS:
                x, y, height = 0, y + height, 0
            place = models.GridPos(panel.height, panel.width, x, y)
            yield _panel(panel, runbook).id(number).grid_pos(place)
            x, height = x + panel.width, max(height, panel.height)
        y += height


def _panel(panel: Panel, runbook: str) -> _Builder:
    made = _LOOKS[panel.look]()
    made.title(panel.title).description(panel.description).datasource(_SOURCE).unit(panel.unit)
    for letter, query in zip(_LETTERS, panel.queries, strict=False):
        made.with_target(_target(query, letter, panel.look))
    links: list[Builder[models.DashboardLink]] = [_link(alert, runbook) for alert in panel.alerts]
    if links:
        made.links(links)
    if panel.look is not Look.STATES:
        made.thresholds(_thresholds(panel))
    if isinstance(made, timeseries.Panel):
        made.min(0)
        if panel.limits:
            line = common.GraphThresholdsStyleConfig().mode(looks.GraphThresholdsStyleMode.DASHED)
            made.thresholds_style(line)
        if panel.look is Look.STACKED:
            made.stacking(common.StackingConfig().mode(looks.StackingMode.NORMAL))
    return made


def _target(query: Query, letter: str, look: Look) -> prometheus.Dataquery:
    target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(letter)
    target.datasource(_SOURCE)
    if look is Look.TABLE:
        return target.instant().format(PromQueryFormat.TABLE)
    # A number over the whole time that is shown is asked for once, not for each of its points.
    return target.instant() if "$__range]" in query.expr else target.range()


def _link(alert: str, runbook: str) -> dashboard.DashboardLink:
    link = dashboard.DashboardLink(f"Runbook: {alert}").type(models.DashboardLinkType.LINK)
    return link.url(runbook_url(alert, runbook)).target_blank(True)


def _thresholds(panel: Panel) -> dashboard.ThresholdsConfig:
    limits = panel.limits
    if not limits or limits[0][0] is not None:
        limits = ((None, "green"), *limits)
    steps = [models.Threshold(value, colour) for value, colour in limits]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


def _lines() -> timeseries.Panel:
    legend = common.VizLegendOptions().display_mode(looks.LegendDisplayMode.LIST)
    tooltip = common.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI)
    return (
        timeseries.Panel()
        .legend(legend.placement(looks.LegendPlacement.BOTTOM).show_legend(True))
        .tooltip(tooltip.sort(looks.SortOrder.DESCENDING))
        .fill_opacity(10)
        .show_points(looks.VisibilityMode.NEVER)
    )


def _number() -> stat.Panel:
    last = common.ReduceDataOptions().calcs(["lastNotNull"])
    return stat.Panel().reduce_options(last).graph_mode(looks.BigValueGraphMode.AREA).no_value("0")


def _states() -> statetimeline.Panel:
    options = {
        str(number): models.ValueMappingResult(str(state), _COLOURS[state], index=number)
        for state, number in STATES.items()
    }
    shown = statetimeline.Panel().mappings([models.ValueMap(options)])
    return shown.show_value(looks.VisibilityMode.NEVER).row_height(0.8)


def _table() -> table.Panel:
    hidden = {"excludeByName": {"Time": True, "Value": True}}
    return table.Panel().with_transformation(
        models.DataTransformerConfig(id_val="organize", options=hidden)
    )


_LOOKS: dict[Look, Callable[[], _Builder]] = {
    Look.LINES: _lines,
    Look.STACKED: _lines,
    Look.NUMBER: _number,
    Look.STATES: _states,
    Look.TABLE: _table,
}


def _uid(flow: str) -> str:
    """Return the same for the same flow, in the characters and the length that Grafana takes."""
    uid = f"{BOARD}-{re.sub(r'[^A-Za-z0-9_-]', '-', flow)}"
    if uid == f"{BOARD}-{flow}" and len(uid) <= _LONGEST:
        return uid
    mark = hashlib.sha256(flow.encode()).hexdigest()[:8]
    return f"{uid[: _LONGEST - 9]}-{mark}"
