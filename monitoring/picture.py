#!/usr/bin/env python3
"""Draws a Grafana dashboard without Grafana: asks a Prometheus what its panels ask, and writes an SVG or an HTML file.

    cd monitoring
    ./picture.py grafana/dashboards/portfolio-overview.json --prometheus http://127.0.0.1:9090 --out overview.html

Every expression that has no data is named on stderr. Ends with 1 if Prometheus refuses one.
"""

import argparse
import html
import json
import math
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

COLUMN, ROW, GAP = 62, 34, 8  # pixels: a column and a row of Grafana's grid, and the space between panels
POINTS = 240  # how many values of a series are asked for
COLOURS = ["#7eb26d", "#eab839", "#6ed0e0", "#ef843c", "#e24d42", "#1f78c1", "#ba43a9", "#705da0", "#508642", "#cca300"]
NAMED = {"green": "#4a9c49", "orange": "#e8890c", "red": "#d9363e", "blue": "#3f7fc4", "yellow": "#d9b400"}
TEXT, FAINT, GRID, PANEL, PAGE = "#24292e", "#6a737d", "#e4e7ea", "#ffffff", "#f4f5f5"


# --- Asking


def substitute(text, dashboard, seconds):
    """Puts values in the place of Grafana's variables. Those of the dashboard itself match everything."""
    step = max(1, round(seconds / POINTS))
    known = {
        "__rate_interval": "1m",
        "__interval": f"{step}s",
        "__interval_ms": str(step * 1000),
        "__range": f"{seconds}s",
        "__range_s": str(seconds),
        "__range_ms": str(seconds * 1000),
    }
    for variable in dashboard.get("templating", {}).get("list", []):
        if variable.get("type") == "datasource":
            continue
        value = variable.get("current", {}).get("value") or ".*"
        values = value if isinstance(value, list) else [value]
        known[variable["name"]] = "|".join(".*" if each in ("$__all", "") else each for each in values)

    def value_of(match):
        return known.get(match.group(1) or match.group(2), match.group(0))

    # `$1` of label_replace is no variable.
    return re.sub(r"\$(?:\{(\w+)(?::\w+)?\}|([A-Za-z_]\w*))", value_of, text)


def ask(prometheus, expression, end, seconds):
    """The series that an expression gives over the time shown: (labels, [(time, value)]) each."""
    step = max(1, round(seconds / POINTS))
    query = {"query": expression, "start": end - seconds, "end": end, "step": step}
    url = f"{prometheus.rstrip('/')}/api/v1/query_range?{urllib.parse.urlencode(query)}"
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            result = json.load(answer)["data"]["result"]
    except urllib.error.HTTPError as error:
        told = error.read().decode(errors="replace")
        try:
            told = json.loads(told)["error"]
        except (ValueError, KeyError):
            pass
        raise RuntimeError(told) from error
    return [(one["metric"], [(float(t), float(v)) for t, v in one["values"]]) for one in result]


def name_of(labels, target, title):
    """A series' name: the legend with its labels filled in, else the labels."""
    legend = target.get("legendFormat") or ""
    if legend and legend != "__auto":
        return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda match: labels.get(match.group(1), ""), legend).strip() or title
    shown = ", ".join(f"{key}={value}" for key, value in sorted(labels.items()) if key != "__name__")
    return shown or labels.get("__name__") or title


def gather(panel, dashboard, args, end):
    """All series of a panel, and what is wrong with its expressions: (kind, message) each."""
    found, wrong = [], []
    for target in panel.get("targets", []):
        expression = substitute(target["expr"], dashboard, args.seconds)
        try:
            series = ask(args.prometheus, expression, end, args.seconds)
        except (RuntimeError, OSError) as error:
            wrong.append(("error", f"{expression}: {error}"))
            continue
        # What is not a number is not data: 0 requests of 0.
        series = [(labels, [(t, v) for t, v in values if math.isfinite(v)]) for labels, values in series]
        series = [(labels, values) for labels, values in series if values]
        if not series:
            wrong.append(("no data", expression))
        found += [(name_of(labels, target, panel.get("title", "")), values) for labels, values in series]
    return found, wrong


# --- Numbers


def number(value, digits=3):
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    digits = max(0, min(digits, digits - 1 - math.floor(math.log10(abs(value)))))
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def scaled(value, steps):
    """The value in the largest unit that it reaches; steps are (size, unit), the largest first."""
    for size, unit in steps:
        if abs(value) >= size:
            return f"{number(value / size)}{unit}"
    size, unit = steps[-1]
    return f"{number(value / size)}{unit}" if value else f"0{unit}"


TIMES = [(86400, " d"), (3600, " h"), (60, " min"), (1, " s"), (1e-3, " ms"), (1e-6, " µs")]
THOUSANDS = [(1e9, " G"), (1e6, " M"), (1e3, " k"), (1, "")]
UNITS = {
    "s": lambda v: scaled(v, TIMES) if v else "0 s",
    "bytes": lambda v: scaled(v, [(2**40, " TiB"), (2**30, " GiB"), (2**20, " MiB"), (2**10, " KiB"), (1, " B")]),
    "percentunit": lambda v: f"{number(v * 100)} %",
    "percent": lambda v: f"{number(v)} %",
    "reqps": lambda v: scaled(v, THOUSANDS) + " req/s",
    "ops": lambda v: scaled(v, THOUSANDS) + " ops/s",
    "cps": lambda v: scaled(v, THOUSANDS) + " /s",
    "none": lambda v: number(v, 6),
}


def shown(value, defaults):
    """The value as the panel's unit and mappings have it."""
    for mapping in defaults.get("mappings", []):
        option = mapping.get("options", {}).get(number(value)) if mapping.get("type") == "value" else None
        if option:
            return option.get("text", number(value))
    decimals = defaults.get("decimals")
    if decimals is not None and defaults.get("unit") in ("none", "short", None):
        value = round(value, decimals)
    return UNITS.get(defaults.get("unit"), lambda v: scaled(v, THOUSANDS))(value)


def colour_of(value, defaults):
    colour = "green"
    for step in defaults.get("thresholds", {}).get("steps", []):
        if step["value"] is None or value >= step["value"]:
            colour = step["color"]
    return NAMED.get(colour, colour)


def ticks(low, high, unit, count=4):
    """Round values between two others; bytes are round in powers of two, long times in minutes, hours and days."""
    raw = (high - low) / count
    if unit == "bytes":
        step = 2.0 ** math.ceil(math.log2(raw))
    elif unit == "s" and 20 < raw <= 86400:
        step = next(each for each in (30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 21600, 43200, 86400) if each >= raw)
    else:
        size = 10 ** math.floor(math.log10(raw))
        step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [step * index for index in range(first, math.floor(high / step + 1e-9) + 1)]


# --- Drawing


class Drawing:
    """Lines of SVG. Coordinates are rounded, so that the file stays small."""

    def __init__(self):
        self.lines = []

    def add(self, tag, text=None, **attributes):
        given = []
        for key, value in attributes.items():
            value = round(value, 1) if isinstance(value, float) and not key.endswith("opacity") else value
            given.append(f'{key.replace("_", "-")}="{html.escape(str(value))}"')
        end = "/>" if text is None else f">{html.escape(text)}</{tag}>"
        self.lines.append(f"<{tag} {' '.join(given)}{end}")

    def text(self, x, y, text, size=11, colour=TEXT, anchor="start", weight="normal"):
        self.add("text", text, x=x, y=y, font_size=size, fill=colour, text_anchor=anchor, font_weight=weight)

    def rect(self, x, y, width, height, fill, **more):
        self.add("rect", x=x, y=y, width=width, height=height, fill=fill, **more)

    def line(self, x1, y1, x2, y2, colour, **more):
        self.add("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke=colour, **more)


def cut(text, pixels, size=11):
    """The text, no wider than so many pixels."""
    most = max(1, int(pixels / (size * 0.53)))
    return text if len(text) <= most else text[: most - 1] + "…"


def draw_stat(drawing, box, series, defaults, options):
    x, y, width, height = box
    filled = options.get("colorMode") == "background"
    each = width / len(series)
    for index, (name, values) in enumerate(series):
        last = values[-1][1]
        colour = colour_of(last, defaults)
        if filled:
            drawing.rect(x + index * each, y, each, height, colour, rx=2)
        mode = options.get("textMode", "auto")
        text = name if mode == "name" else shown(last, defaults)
        with_name = mode == "value_and_name" or (mode == "auto" and len(series) > 1)
        size = max(11, min(30, height * 0.6, each / max(1, len(text)) * 1.6))
        centre = x + (index + 0.5) * each
        ink = "#ffffff" if filled else colour
        drawing.text(centre, y + height / 2 + size * 0.35 - (6 if with_name else 0), text, size, ink, "middle", "bold")
        if with_name:
            drawing.text(centre, y + height - 5, cut(name, each), 11, ink if filled else FAINT, "middle")


def draw_bars(drawing, box, series, defaults):
    x, y, width, height = box
    top = defaults.get("max") or max(values[-1][1] for _, values in series) or 1
    each = min(26, height / len(series))
    for index, (name, values) in enumerate(series):
        last, above = values[-1][1], y + index * each
        drawing.text(x, above + each * 0.65, cut(name, width * 0.38), 11)
        start, room = x + width * 0.4, width * 0.4
        drawing.rect(start, above + 3, room, each - 6, GRID)
        drawing.rect(start, above + 3, room * min(1, max(0, last / top)), each - 6, colour_of(last, defaults))
        drawing.text(x + width, above + each * 0.65, shown(last, defaults), 11, TEXT, "end")


def stack(series):
    """Each series on top of those before it: (name, values, what lies below)."""
    below, stacked = {}, []
    for name, values in series:
        under = [(t, below.get(t, 0.0)) for t, _ in values]
        over = [(t, v + below.get(t, 0.0)) for t, v in values]
        below.update(over)
        stacked.append((name, over, under))
    return stacked


class Chart:
    """Lines or bars over time, with axes and a legend."""

    def __init__(self, drawing, box, series, defaults, times):
        self.drawing, self.box, self.series, self.defaults = drawing, box, series, defaults
        self.start, self.end, self.step = times
        self.custom = defaults.get("custom", {})
        stacked = self.custom.get("stacking", {}).get("mode") == "normal"
        self.drawn = stack(series) if stacked else [(name, values, None) for name, values in series]
        lines = self.custom.get("thresholdsStyle", {}).get("mode") == "line"
        steps = defaults.get("thresholds", {}).get("steps", []) if lines else []
        self.limits = [step for step in steps if step["value"] is not None]

        x, y, width, height = box
        self.legend_rows = max(1, min(3, math.ceil(len(series) / 2)))
        self.left, self.right = x + 62, x + width - 6
        self.top, self.bottom = y + 4, y + height - 18 - 14 * self.legend_rows
        every = [value for _, values, _ in self.drawn for _, value in values]
        self.low = defaults.get("min", min(every))
        self.high = defaults.get("max")
        if self.high is None:
            # A limit is shown where it is near enough not to flatten what lies below it.
            near = [limit["value"] for limit in self.limits if limit["value"] <= 4 * max(every)]
            self.high = max(every + near) * 1.05
        if self.high <= self.low:
            self.high = self.low + 1

    def across(self, time_):
        return self.left + (time_ - self.start) / (self.end - self.start) * (self.right - self.left)

    def up(self, value):
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.bottom - share * (self.bottom - self.top)

    def draw(self):
        self.axes()
        fill = self.custom.get("fillOpacity", 0) / 100
        for index, (_, values, under) in enumerate(self.drawn):
            colour = COLOURS[index % len(COLOURS)]
            under = under or [(t, self.low) for t, _ in values]
            if self.custom.get("drawStyle") == "bars":
                self.bars(values, under, colour, max(fill, 0.4))
            else:
                self.lines(values, under, colour, fill)
        self.legend()

    def axes(self):
        plain = {**self.defaults, "mappings": [], "decimals": None}
        for tick in ticks(self.low, self.high, self.defaults.get("unit")):
            self.drawing.line(self.left, self.up(tick), self.right, self.up(tick), GRID)
            self.drawing.text(self.left - 5, self.up(tick) + 4, cut(shown(tick, plain), 60, 10), 10, FAINT, "end")
        count = 4 if self.right - self.left > 340 else 3
        clock = "%H:%M" if self.end - self.start > 600 else "%H:%M:%S"
        for index in range(count):
            at = self.start + (self.end - self.start) * index / (count - 1)
            anchor = "start" if index == 0 else "end" if index == count - 1 else "middle"
            self.drawing.text(self.across(at), self.bottom + 13, time.strftime(clock, time.localtime(at)), 10, FAINT, anchor)
        for limit in self.limits:
            if limit["value"] <= self.high:
                y, colour = self.up(limit["value"]), NAMED.get(limit["color"], limit["color"])
                self.drawing.line(self.left, y, self.right, y, colour, stroke_dasharray="5 4")

    def bars(self, values, under, colour, fill):
        thick = max(1.0, (self.right - self.left) * self.step / (self.end - self.start) * 0.8)
        for (t, value), (_, below) in zip(values, under):
            if value > below:
                height = self.up(below) - self.up(value)
                self.drawing.rect(self.across(t) - thick / 2, self.up(value), thick, height, colour, fill_opacity=fill)

    def lines(self, values, under, colour, fill):
        begin = 0
        for place in range(1, len(values) + 1):
            # A gap in the data is a gap in the line.
            if place < len(values) and values[place][0] - values[place - 1][0] <= self.step * 1.5:
                continue
            points = [f"{self.across(t):.1f},{self.up(v):.1f}" for t, v in values[begin:place]]
            back = [f"{self.across(t):.1f},{self.up(v):.1f}" for t, v in reversed(under[begin:place])]
            begin = place
            if fill:
                self.drawing.add("polygon", points=" ".join(points + back), fill=colour, fill_opacity=fill)
            line = " ".join(points if len(points) > 1 else points * 2)
            self.drawing.add("polyline", points=line, fill="none", stroke=colour, stroke_width=1.4, stroke_linecap="round")

    def legend(self):
        x, y, width, height = self.box
        room, places = (width - 8) / 2, 2 * self.legend_rows
        entries = [(values[-1][0] < self.end - 2 * self.step, index) for index, (_, values) in enumerate(self.series)]
        # Those that are there now come first.
        for place, (gone, index) in enumerate(sorted(entries)[:places]):
            name, values = self.series[index]
            at_x = x + 4 + (place % 2) * room
            at_y = y + height + 7 - 14 * (self.legend_rows - place // 2)
            if place == places - 1 and len(entries) > places:
                self.drawing.text(at_x + 14, at_y, f"and {len(entries) - place} more", 10, FAINT)
                continue
            text = f"{name}  {'gone' if gone else shown(values[-1][1], self.defaults)}"
            self.drawing.rect(at_x, at_y - 7, 10, 4, COLOURS[index % len(COLOURS)])
            self.drawing.text(at_x + 14, at_y, cut(text, room - 18, 10), 10)


def draw_panel(drawing, panel, box, dashboard, args, end):
    """Draws one panel, and returns what is wrong with its expressions."""
    x, y, width, height = box
    drawing.rect(x, y, width, height, PANEL, rx=3, stroke=GRID)
    drawing.lines.append(f"<g><title>{html.escape(panel.get('description', ''))}</title>")
    drawing.text(x + 8, y + 16, cut(panel.get("title", ""), width - 16, 12), 12, TEXT, "start", "bold")
    drawing.lines.append("</g>")
    series, wrong = gather(panel, dashboard, args, end)
    inner = (x + 8, y + 24, width - 16, height - 30)
    defaults, options = panel.get("fieldConfig", {}).get("defaults", {}), panel.get("options", {})
    errors = [message for kind, message in wrong if kind == "error"]
    if errors:
        drawing.text(x + 8, y + 40, cut(errors[0], width - 16), 11, NAMED["red"])
    elif panel["type"] == "timeseries" and series:
        times = (end - args.seconds, end, max(1, round(args.seconds / POINTS)))
        Chart(drawing, inner, series, defaults, times).draw()
    else:
        # What is said of now has to be of now.
        recent = [(name, values) for name, values in series if values[-1][0] >= end - 300]
        if not recent:
            drawing.text(x + width / 2, y + height / 2 + 8, defaults.get("noValue", "no data"), 13, FAINT, "middle")
        elif panel["type"] == "stat":
            draw_stat(drawing, inner, recent, defaults, options)
        elif panel["type"] in ("bargauge", "gauge"):
            draw_bars(drawing, inner, recent, defaults)
        else:
            drawing.text(x + 8, y + 40, f"a panel of the type {panel['type']} cannot be drawn", 11, NAMED["red"])
    return wrong


def flat(panels):
    """All panels, those of collapsed rows too."""
    for panel in panels:
        yield panel
        yield from flat(panel.get("panels", []))


def draw(dashboard, args):
    """The picture as SVG, and what is wrong: (panel's title, kind, message) each."""
    end = args.end or time.time()
    panels = list(flat(dashboard["panels"]))
    bottom = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in panels)
    width, head = 24 * COLUMN + GAP, 44
    drawing, wrong = Drawing(), []
    height = bottom * ROW + head + GAP
    drawing.lines.append(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="Inter, Helvetica, Arial, sans-serif">'
    )
    drawing.rect(0, 0, width, height, PAGE)
    drawing.text(GAP, 28, dashboard["title"], 18, TEXT, "start", "bold")
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(end - args.seconds))
    until = time.strftime("%H:%M %Z", time.localtime(end))
    drawing.text(width - GAP, 28, f"{since} to {until}", 12, FAINT, "end")
    for panel in panels:
        at = panel["gridPos"]
        x, y = at["x"] * COLUMN + GAP, at["y"] * ROW + head
        if panel["type"] == "row":
            drawing.text(x, y + 22, panel["title"], 14, TEXT, "start", "bold")
            continue
        box = (x, y, at["w"] * COLUMN - GAP, at["h"] * ROW - GAP)
        found = draw_panel(drawing, panel, box, dashboard, args, end)
        wrong += [(panel.get("title", ""), kind, message) for kind, message in found]
    drawing.lines.append("</svg>")
    return "\n".join(drawing.lines), wrong


def span(text):
    """A length of time such as 90s, 30m, 3h or 2d, in seconds."""
    match = re.fullmatch(r"(\d+)([smhd])", text)
    if not match or int(match.group(1)) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not allowed, write a length of time such as 30m")
    return int(match.group(1)) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match.group(2)]


def main():
    parser = argparse.ArgumentParser(description="Draws a Grafana dashboard from what a Prometheus says.")
    parser.add_argument("dashboard", help="the dashboard's JSON file")
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090", metavar="URL")
    parser.add_argument("--out", required=True, metavar="FILE", help="an .svg or .html file")
    last = {"dest": "seconds", "type": span, "default": 1800, "metavar": "TIME"}
    parser.add_argument("--last", **last, help="how far back it goes [default: 30m]")
    parser.add_argument("--end", type=float, metavar="SECONDS", help="where it ends, as a Unix time [default: now]")
    args = parser.parse_args()
    with open(args.dashboard, encoding="utf-8") as file:
        dashboard = json.load(file)
    picture, wrong = draw(dashboard, args)
    if args.out.endswith(".html"):
        title = html.escape(dashboard["title"])
        head = f'<!DOCTYPE html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title>'
        picture = f'{head}\n<body style="margin:0;background:{PAGE}">\n{picture}\n</body></html>'
    with open(args.out, "w", encoding="utf-8") as file:
        file.write(picture + "\n")
    for title, kind, message in wrong:
        print(f"{kind}: {title}: {message}", file=sys.stderr)
    return 1 if any(kind == "error" for _, kind, _ in wrong) else 0


if __name__ == "__main__":
    sys.exit(main())
