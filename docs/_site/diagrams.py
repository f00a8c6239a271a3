"""Draws the diagrams of the documentation as SVG: `python docs/_site/diagrams.py` writes them to docs/pictures/.

They contain only shapes and text. Colors depend on the class of a shape: STYLE is for GitHub, in light and dark, and
docs/_static/site.css for the site.
"""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1]
STYLE = """<style>
text { font-family: system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328; }
.note { fill: #59636e; } .box { fill: #f6f8fa; stroke: #8c959f; } .main { fill: #ddf4ff; stroke: #0969da; }
.arrow, .line { stroke: #6e7781; } .head { fill: #6e7781; } .grid { stroke: #d1d9e0; }
.series-1 { stroke: #0969da; } .series-2 { stroke: #e08a00; } .series-3 { stroke: #2f9e5b; }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc; } .note { fill: #9198a1; } .box { fill: #151b23; stroke: #656c76; }
.main { fill: #121d2f; stroke: #4493f8; } .grid { stroke: #3d444d; } .series-1 { stroke: #4493f8; }
}
</style>
"""
LINE_HEIGHT = 16  # px
SERVICE_ROWS = (
    ("SQS", "the queue of jobs"),
    ("S3", "inputs, results, records"),
    ("ECS", "containers"),
    ("EC2", "machines, usually spot"),
    ("CloudWatch", "logs, alarms"),
)
# What each command does in each service. What the workers do is between startCluster and monitor.
SERVICE_COLUMNS = (
    ("setup", "config.py", {"SQS": "creates", "ECS": "creates", "CloudWatch": "creates"}),
    ("submitJob", "Job file", {"SQS": "sends jobs", "S3": "uploads"}),
    ("startCluster", "Fleet file", {"SQS": "counts", "S3": "notes the run", "ECS": "starts", "EC2": "rents"}),
    ("the workers", "your image", {
        "SQS": "take jobs", "S3": "read, write", "ECS": "run in", "EC2": "run on", "CloudWatch": "write logs"
    }),
    ("monitor", "monitor file", {
        "SQS": "deletes", "S3": "summarizes", "ECS": "deletes", "EC2": "terminates", "CloudWatch": "keeps logs"
    }),
)  # fmt: skip
# Rows of the diagram of the packages, from top to bottom.
PACKAGE_ROWS = (
    ("run.py", "Lambda function", "worker/generic-worker.py"),
    ("cli", "localcloud"),
    ("diagnose", "run"),
    ("results", "account"),
    ("observe", "project"),
    ("fleet", "jobs"),
    ("aws",),
    ("core",),
    ("worker",),
)


class Drawing:
    """Shapes on an area of `width` × `height` px; x and y are px from its upper left corner."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.shapes: list[str] = []

    def add_text(self, x: float, y: float, text: str, kind: str = "", size: int = 13, anchor: str = "middle") -> None:
        """Add a line of text. `kind`: `note` for secondary text, `strong` for bold text."""
        weight = ' font-weight="600"' if kind == "strong" else ""
        self.shapes.append(
            f'<text x="{x:g}" y="{y:g}" class="{kind}" font-size="{size}" text-anchor="{anchor}"{weight}>'
            f"{escape(text)}</text>"
        )

    def add_box(self, x: float, y: float, width: float, height: float, lines: list[str], kind: str = "box") -> None:
        """Add a box with centered lines: the first is bold, the others are smaller."""
        self.shapes.append(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6" class="{kind}"/>')
        top = y + height / 2 - LINE_HEIGHT * (len(lines) - 1) / 2 + 4
        for number, line in enumerate(lines):
            text_kind, size = ("strong", 13) if number == 0 else ("note", 12)
            self.add_text(x + width / 2, top + LINE_HEIGHT * number, line, text_kind, size)

    def add_line(self, points: list[tuple[float, float]], kind: str = "line", width: float = 1.5) -> None:
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        self.shapes.append(f'<polyline points="{path}" class="{kind}" fill="none" stroke-width="{width:g}"/>')

    def add_arrow(self, *points: tuple[float, float]) -> None:
        """Add a line through `points` with a head at its end, which must be vertical or horizontal."""
        (x0, y0), (x, y) = points[-2], points[-1]
        length = max(abs(x - x0), abs(y - y0)) or 1
        dx, dy = (x - x0) / length, (y - y0) / length
        left, right = (x - 8 * dx - 4 * dy, y - 8 * dy + 4 * dx), (x - 8 * dx + 4 * dy, y - 8 * dy - 4 * dx)
        self.add_line([*points[:-1], (x - 7 * dx, y - 7 * dy)], "arrow")
        head = " ".join(f"{a:g},{b:g}" for a, b in ((x, y), left, right))
        self.shapes.append(f'<polygon points="{head}" class="head"/>')

    def format_svg(self, title: str) -> str:
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}">'
        return "\n".join([head, f"<title>{escape(title)}</title>", STYLE + "\n".join(self.shapes), "</svg>", ""])


def draw_services() -> Drawing:
    """Return a table of commands and services. The columns are in the order of a run."""
    drawing = Drawing(760, 352)
    left, width, top, height = 130, 122, 84, 52
    for column, (command, file, actions) in enumerate(SERVICE_COLUMNS):
        x = left + column * (width + 4)
        drawing.add_box(x, 8, width - 8, 48, [command, file], "main" if command != "the workers" else "box")
        if column:
            drawing.add_arrow((x - 12, 32), (x, 32))
        drawing.add_line([(x + width / 2 - 4, 56), (x + width / 2 - 4, top + len(SERVICE_ROWS) * height)], "grid")
        for row, (service, _) in enumerate(SERVICE_ROWS):
            if service in actions:
                drawing.add_box(x + 4, top + row * height + 10, width - 16, 30, [])
                drawing.add_text(x + width / 2 - 4, top + row * height + 30, actions[service], size=12)
    for row, (service, meaning) in enumerate(SERVICE_ROWS):
        y = top + row * height
        drawing.add_line([(0, y), (760, y)], "grid", 1)
        drawing.add_text(2, y + 23, service, "strong", anchor="start")
        drawing.add_text(2, y + 39, meaning, "note", 11, anchor="start")
    bottom = top + len(SERVICE_ROWS) * height
    drawing.add_line([(0, bottom), (760, bottom)], "grid", 1)
    drawing.add_text(2, 28, "You type", "strong", anchor="start")
    drawing.add_text(2, 46, "and edit", "note", 12, anchor="start")
    return drawing


def draw_job() -> Drawing:
    """Return the life of a job: the steps of an attempt, and where the message is if an attempt does not succeed."""
    drawing = Drawing(760, 284)
    steps = (
        ("leased", "hidden in the queue"), ("already done?", "skipped"), ("inputs", "downloaded"),
        ("program", "runs"), ("success?", "exit code, files"), ("results", "uploaded, verified"),
    )  # fmt: skip
    drawing.add_box(4, 20, 140, 56, ["the queue", "one message per job"], "main")
    for number, (title, detail) in enumerate(steps):
        row, column = divmod(number, 3)
        x, y = 190 + column * 200, 20 + row * 96
        drawing.add_box(x, y, 150, 56, [title, detail])
        if column:
            drawing.add_arrow((x - 50, y + 28), (x, y + 28))
    drawing.add_arrow((144, 48), (190, 48))
    drawing.add_arrow((665, 76), (665, 96), (265, 96), (265, 116))
    drawing.add_box(590, 212, 150, 56, ["record", "written"])
    drawing.add_arrow((665, 172), (665, 212))
    drawing.add_box(390, 212, 150, 56, ["message deleted", "the job is done"], "main")
    drawing.add_arrow((590, 240), (540, 240))
    drawing.add_arrow((190, 144), (60, 144), (60, 76))
    drawing.add_text(126, 136, "another attempt", "note", 12)
    drawing.add_text(126, 160, "if it fails, or the", "note", 12)
    drawing.add_text(126, 175, "machine is lost", "note", 12)
    drawing.add_box(190, 212, 150, 56, ["failed for good", "record, log, cause"])
    drawing.add_arrow((265, 172), (265, 212))
    drawing.add_text(275, 197, "after JOB_RETRIES attempts", "note", 12, anchor="start")
    drawing.add_arrow((190, 240), (30, 240), (30, 76))
    drawing.add_text(110, 232, "retry", "strong", 12)
    return drawing


def draw_scaling() -> Drawing:
    """Return a sketch of what shrinks when: jobs that are left, slots, and machines, over the time of a run."""
    drawing = Drawing(760, 292)
    drawing.add_line([(50, 20), (50, 250), (750, 250)], "line")
    drawing.add_text(718, 244, "time →", "note", 12, anchor="start")
    # 4 slots per machine: 20 px of slots for each 20 px of machines would hide one line behind the other.
    jobs = [(90, 40), (430, 110), (540, 170), (610, 210), (690, 250)]
    slots = [(90, 250), (130, 110), (430, 110), (470, 110), (470, 140), (540, 140), (540, 182), (610, 182), (610, 222),
             (700, 222), (700, 250)]  # fmt: skip
    machines = [(78, 250), (100, 165), (480, 165), (480, 185), (550, 185), (550, 210), (620, 210), (620, 234),
                (710, 234), (710, 250)]  # fmt: skip
    for points, kind in ((jobs, "series-1"), (slots, "series-2"), (machines, "series-3")):
        drawing.add_line([(x, float(y)) for x, y in points], kind, 2.5)
    for x, first, second in ((84, "startCluster", ""), (430, "fewer jobs", "than slots"), (690, "no jobs", "are left")):
        drawing.add_line([(x, 20), (x, 250)], "grid", 1)
        drawing.add_text(x, 268, first, "note", 12)
        drawing.add_text(x, 283, second, "note", 12)
    drawing.add_text(250, 62, "jobs that are left", "strong", 12, anchor="start")
    drawing.add_text(180, 128, "slots: room for one job each", "strong", 12, anchor="start")
    drawing.add_text(180, 183, "machines: EC2 replaces reclaimed ones", "strong", 12, anchor="start")
    return drawing


def read_arrows() -> list[tuple[str, str]]:
    """Return the arrows in docs/architecture.md, as (importing package, imported package)."""
    text = (DOCS / "architecture.md").read_text().partition("```mermaid\n")[2].partition("```")[0]
    arrows = re.findall(r"^    (?:\w+\(\[)?([\w./ -]+?)(?:\]\))? --> (\w+)$", text, flags=re.M)
    return [(start.strip(), end) for start, end in arrows]


def draw_packages() -> Drawing:
    """Return the packages and the arrows of docs/architecture.md, which point downward."""
    drawing = Drawing(760, 60 * len(PACKAGE_ROWS) + 10)
    places: dict[str, tuple[float, int]] = {}
    for row, names in enumerate(PACKAGE_ROWS):
        for column, name in enumerate(names):
            places[name] = (760 * (2 * column + 1) / (2 * len(names)), row)
    for start, end in read_arrows():
        (x0, row0), (x1, row1) = places[start], places[end]
        if row0 == row1:
            drawing.add_arrow((x0 + 100, row0 * 60 + 23), (x1 - 100, row0 * 60 + 23))
            continue
        # Lines that skip rows run beside the boxes between.
        middle = row0 * 60 + 48 if row1 - row0 == 1 else row1 * 60 - 6
        side = x0 if row1 - row0 == 1 else x0 + (118 if x0 >= 380 else -118)
        begin = (x0, row0 * 60 + 38) if side == x0 else (x0 + (100 if side > x0 else -100), row0 * 60 + 23)
        corner = (
            [begin, (side, begin[1]), (side, middle), (x1, middle)]
            if side != x0
            else [begin, (x0, middle), (x1, middle)]
        )
        drawing.add_arrow(*corner, (x1, row1 * 60 + 8))
    for name, (x, row) in places.items():
        drawing.add_box(x - 100, row * 60 + 8, 200, 30, [name], "main" if row == 0 else "box")
    return drawing


DRAWINGS = {
    "services": (draw_services, "Which command touches which service of AWS"),
    "job": (draw_job, "The life of a job"),
    "scaling": (draw_scaling, "What shrinks when"),
    "packages": (draw_packages, "The packages and their imports"),
}


def format_drawings() -> dict[str, str]:
    """Return the text of each file in docs/pictures/ that this module draws, keyed by name."""
    return {f"{name}.svg": draw().format_svg(title) for name, (draw, title) in DRAWINGS.items()}


if __name__ == "__main__":
    for file, text in format_drawings().items():
        (DOCS / "pictures" / file).write_text(text)
