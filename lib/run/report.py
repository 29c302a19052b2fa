"""A finished run as one HTML file, which needs no network to be read, and as a PDF.

    python -m lib.run.report    settings are taken from the environment, as the Makefile hands them on

writes `report.html` and, where a Chromium is installed, `report.pdf` beside the figures: the gallery if it was drawn
(`lib.explorer.gallery`), claims, figures with their captions, tables, parameters and provenance, and the executed
notebooks, to whose cells the numbers are linked.
"""

import ast
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from itertools import chain
from pathlib import Path

import jinja2
import nbformat
import pandas as pd
from nbconvert import HTMLExporter
from nbconvert.filters import markdown2html
from pygments.formatters import HtmlFormatter
from traitlets.config import Config

from lib.provenance import write_atomically
from lib.run.paths import foreign_tables
from lib.run.settings import Settings

MAC_CHROME = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", MAC_CHROME)
ROWS, COLUMNS = 10, 12  # of a table: rows that are shown, and columns that fit across a page
MM_PER_PIXEL = 25.4 / 300  # figures are saved at 300 dpi
SHOWN = ["text/html", "image/svg+xml", "image/png", "image/jpeg", "text/markdown", "text/plain"]  # and no scripts


def chapter(executed, figures):
    """What the report says of one executed notebook (path of the .ipynb), as a dict of plain values and HTML.

    figures: folder of its tables and figures. Raises FileNotFoundError if one is missing.
    """
    name, notebook = executed.stem, nbformat.read(executed, as_version=4)
    first = next(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    title, _, introduction = first.partition("\n")
    saved = {"save_figure": [], "save_table": []}
    for (kind, one), (cell, caption, always) in saved_by(notebook).items():
        path = figures / f"{name[:2]}_{one}"
        if not always and not path.with_suffix(".json").exists():
            continue
        shown = image_data(path.with_suffix(".png")) if kind == "save_figure" else table_html(path.with_suffix(".csv"))
        saved[kind].append(shown | {"name": path.name, "cell": cell, "caption": markdown2html(caption)})
    return {
        "name": name,
        "title": title.lstrip("# "),
        "introduction": markdown2html(introduction),
        "figures": saved["save_figure"],
        "tables": saved["save_table"],
        "record": json.loads((figures / "provenance" / f"{name}.json").read_text()),
        "cells": render_cells(notebook, {figure["cell"]: figure["name"] for figure in reversed(saved["save_figure"])}),
    }


def saved_by(notebook):
    """{("save_table" or "save_figure", name): (id of the cell that calls it, text of the last caption before it, whether
    the cell does so always, not under a condition)}."""
    made, caption = {}, ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            caption = cell.source if cell.source.startswith("**Figure.**") else caption
            continue
        for statement in ast.parse(cell.source).body:
            for node in ast.walk(statement):
                match node:
                    case ast.Call(func=ast.Attribute(attr="save_table" | "save_figure" as kind), args=[_, name, *_]):
                        made[kind, name.value] = (cell.id, caption, not isinstance(statement, ast.If))
    return made


def render_cells(notebook, figures):
    """Cells and outputs as HTML without scripts; figures, {cell: name of what it saved}, are not shown but linked."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        for output in cell.get("outputs", []) if cell.id in figures else []:
            if "image/png" in output.get("data", {}):
                name = figures[cell.id]
                output.data = {"text/html": f'<p>Shown above: <a href="#figure-{name}">figure {name}</a></p>'}
    last_state = {"enabled": True}  # of a progress bar
    config = Config(NbConvertBase={"display_data_priority": SHOWN}, CoalesceStreamsPreprocessor=last_state)
    exporter = HTMLExporter(config=config, template_name="basic", exclude_anchor_links=True)
    return exporter.from_notebook_node(notebook)[0]


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
    """Write report.html, with claims if they were judged; returns its path. Raises FileNotFoundError without a run, ValueError
    if its tables do not belong together."""
    executed = [path for path in sorted(build.glob("[0-9][0-9]_*.ipynb")) if "." not in path.stem]
    if not executed:
        raise FileNotFoundError(f"no executed notebook in {build}: run `make paper` first, with the same settings")
    if foreign := ", ".join(chain.from_iterable(foreign_tables(figures).values())):
        raise ValueError(
            f"written by hand, or of other lesions than 03_lesions: {foreign} in {figures}; run `make paper`"
        )
    claims, gallery, html = (figures / name for name in ("claims.csv", "gallery.png", "report.html"))
    chapters = [chapter(path, figures) for path in executed]
    template = Path(__file__).with_suffix(".html").read_text()
    text = jinja2.Template(template, autoescape=True, undefined=jinja2.StrictUndefined).render(
        run=figures.name, chapters=chapters, sweeps=sweeps(figures),
        gallery=image_data(gallery) if gallery.exists() else None,
        claims=pd.read_csv(claims) if claims.exists() else None,
        code_style=HtmlFormatter().get_style_defs(".highlight"),
        cells={table["name"]: table["cell"] for part in chapters for table in part["tables"]},
    )  # fmt: skip
    write_atomically(html, lambda file: file.write_text(text))
    return html


def find_chromium():
    """Path of a Chromium or Chrome, None if there is none."""
    return next((found for name in CHROMIUM if (found := shutil.which(name))), None)


def write_pdf(html, chromium):
    """Print an HTML file to a PDF beside it and return its path. Raises RuntimeError with what Chromium said if not."""
    options = [chromium, "--headless", "--disable-gpu", "--no-pdf-header-footer", "--no-first-run"]
    options += ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium has none for root, as in a container

    def print_to(file):
        with tempfile.TemporaryDirectory() as profile:
            command = [*options, f"--user-data-dir={profile}", f"--print-to-pdf={file}", html.resolve().as_uri()]
            done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        if not file.exists():
            raise RuntimeError(f"{chromium} wrote no PDF: {done.stderr[-1000:]}")

    pdf = html.with_suffix(".pdf")
    write_atomically(pdf.resolve(), print_to)
    return pdf


def main():
    try:
        settings = Settings.given()
        html = write_html(settings.build, settings.figures)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(str(error))
    print(html)
    if chromium := find_chromium():
        print(write_pdf(html, chromium))
    else:
        names = ", ".join(Path(name).name for name in CHROMIUM)
        print(f"no PDF: none of {names} was found; any browser prints {html} to one", file=sys.stderr)


if __name__ == "__main__":
    main()
