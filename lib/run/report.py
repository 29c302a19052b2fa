"""A finished run as one HTML file, which needs no network to be read, and as a PDF.

    python -m lib.run.report build/demo figures/demo

writes `report.html` and, where a Chromium is installed, `report.pdf` beside the figures: claims, figures with their
captions, tables, parameters and provenance, and the executed notebooks, to whose cells the numbers are linked.
"""

import argparse
import ast
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import jinja2
import nbformat
import pandas as pd
from nbconvert import HTMLExporter
from nbconvert.filters import markdown2html
from pygments.formatters import HtmlFormatter
from traitlets.config import Config

from lib.provenance import write_atomically

CHROMIUM = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
ROWS, COLUMNS = 10, 12  # of a table: rows that are shown, and columns that fit across a page
SHOWN = [
    "text/html",
    "image/svg+xml",
    "image/png",
    "image/jpeg",
    "text/markdown",
    "text/plain",
]  # neither scripts nor widgets
EXPORT = Config(
    {
        "HTMLExporter": {"exclude_anchor_links": True},
        "NbConvertBase": {"display_data_priority": SHOWN},
        "CoalesceStreamsPreprocessor": {"enabled": True},  # of a progress bar, the last state
    }
)
MM_PER_PIXEL = 25.4 / 300  # figures are saved at 300 dpi


def chapter(executed, figures):
    """What the report says of one executed notebook, as a dict of plain values and HTML.

    executed: path of the .ipynb. figures: folder of its tables and figures. Raises FileNotFoundError if one is missing.
    """
    name = executed.stem
    notebook = nbformat.read(executed, as_version=4)
    number, made = name[:2], saved_by(notebook)
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    title, _, introduction = texts[0].partition("\n")
    return {
        "name": name,
        "title": title.lstrip("# "),
        "introduction": markdown2html(introduction),
        "figures": [
            image_data(figures / f"{number}_{one}.png")
            | {"name": f"{number}_{one}", "caption": markdown2html(caption), "cell": cell}
            for (kind, one), (cell, caption) in made.items()
            if kind == "save_figure"
        ],
        "tables": [
            table_html(figures / f"{number}_{one}.csv") | {"name": f"{number}_{one}", "cell": cell}
            for (kind, one), (cell, _) in made.items()
            if kind == "save_table"
        ],
        "record": json.loads((figures / "provenance" / f"{name}.json").read_text()),
        "cells": render(notebook, number),
    }


def saved_by(notebook):
    """{("save_table" or "save_figure", name): (id of the cell that calls it, text of the last caption before it)}."""
    made, caption = {}, ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            caption = cell.source if cell.source.startswith("**Figure.**") else caption
        else:
            made |= dict.fromkeys(_saving_calls(cell.source), (cell.id, caption))
    return made


def render(notebook, number):
    """Cells and outputs of a notebook as HTML without scripts; a figure that was saved is not shown again but linked."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        figures = [name for kind, name in _saving_calls(cell.source) if kind == "save_figure"]
        for output in cell.outputs:
            if figures and "image/png" in output.get("data", {}):
                link = f'<p>Shown above: <a href="#figure-{number}_{figures[0]}">figure {number}_{figures[0]}</a></p>'
                output.data = nbformat.NotebookNode({"text/html": link})
    return HTMLExporter(config=EXPORT, template_name="basic").from_notebook_node(notebook)[0]


def image_data(path):
    """A PNG file as it is embedded: its data and its width in print."""
    data = path.read_bytes()
    pixels = int.from_bytes(data[16:20])  # of the header, which every PNG begins with
    source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    return {"source": source, "width_mm": round(pixels * MM_PER_PIXEL, 1)}


def table_html(path):
    """The first rows of a CSV file as HTML, digits as written there; a table of many columns is turned on its side."""
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    first, turned = rows.head(ROWS), rows.shape[1] > COLUMNS
    html = first.T.to_html(header=False, border=0) if turned else first.to_html(index=False, border=0)
    return {"html": html, "rows": len(rows), "shown": len(first), "turned": turned}


def claim_rows(claims, chapters):
    """Claims with their measures and the cell that wrote the table they were taken from. claims: table claims.csv."""
    cells = {one["name"]: one["cell"] for part in chapters for one in part["tables"]}
    return [
        rows.iloc[0].to_dict()
        | {"measures": rows["text"].tolist(), "cell": cells[rows.iloc[0]["file"]]}
        | {"lesions": rows["lesions"].max(), "patients": rows["patients"].max()}
        for _, rows in claims.groupby("claim")
    ]


def sweeps(figures):
    """Figure and numbers of every sweep of the run."""
    return [
        image_data(folder / "sweep.png")
        | table_html(folder / "plotted.csv")
        | {"name": folder.name, "question": json.loads((folder / "sweep.json").read_text())["sweep"]["question"]}
        for folder in sorted(figures.glob("sweeps/*"))
        if (folder / "sweep.csv").exists()
    ]


def write_html(build, figures):
    """Write report.html into figures and return its path; without claims if the run stopped before they were judged.

    Raises FileNotFoundError if nothing was run.
    """
    executed = [path for path in sorted(build.glob("[0-9][0-9]_*.ipynb")) if "." not in path.stem]
    if not executed:
        raise FileNotFoundError(f"no executed notebook in {build}: run `make paper` first, with the same settings")
    chapters = [chapter(path, figures) for path in executed]
    claims = figures / "claims.csv"
    judged = claim_rows(pd.read_csv(claims), chapters) if claims.exists() else []
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True)
    text = environment.get_template("report.html").render(
        run=figures.name, chapters=chapters, claims=judged, sweeps=sweeps(figures),
        code_style=HtmlFormatter().get_style_defs(".highlight"),
    )  # fmt: skip
    html = figures / "report.html"
    write_atomically(html, lambda file: file.write_text(text))
    return html


def find_chromium():
    """Path of a Chromium or Chrome, None if there is none."""
    return next((found for name in CHROMIUM if (found := shutil.which(name))), None)


def write_pdf(html, chromium):
    """Print an HTML file to a PDF beside it and return its path. Raises RuntimeError with what Chromium said if not."""
    options = ["--headless", "--disable-gpu", "--no-pdf-header-footer", "--no-first-run"]
    options += ["--no-sandbox"] if _is_root() else []

    def print_to(file):
        with tempfile.TemporaryDirectory() as profile:
            command = [
                chromium,
                *options,
                f"--user-data-dir={profile}",
                f"--print-to-pdf={file}",
                html.resolve().as_uri(),
            ]
            done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        if not file.exists():
            raise RuntimeError(f"{chromium} wrote no PDF: {done.stderr[-1000:]}")

    pdf = html.with_suffix(".pdf")
    write_atomically(pdf.resolve(), print_to)
    return pdf


def _saving_calls(source):
    """("save_table" or "save_figure", name) of each such call in the source of a cell."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    attributes = [(node.func.attr, node.args) for node in calls if isinstance(node.func, ast.Attribute)]
    return [(name, args[1].value) for name, args in attributes if name in ("save_table", "save_figure")]


def _is_root():
    return hasattr(os, "geteuid") and os.geteuid() == 0  # Chromium has no sandbox for root, as in a container


def main():
    parser = argparse.ArgumentParser(prog="python -m lib.run.report", description=__doc__.splitlines()[0])
    parser.add_argument("build", type=Path, help="folder of the executed notebooks")
    parser.add_argument("figures", type=Path, help="folder of the tables and figures")
    given = parser.parse_args()
    try:
        html = write_html(given.build, given.figures)
    except FileNotFoundError as error:
        sys.exit(str(error))
    print(html)
    if chromium := find_chromium():
        print(write_pdf(html, chromium))
    else:
        names = ", ".join(Path(name).name for name in CHROMIUM)
        print(f"no PDF: none of {names} was found; any browser prints {html} to one", file=sys.stderr)


if __name__ == "__main__":
    main()
