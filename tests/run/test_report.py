"""The report: every number leads to the cell that made it, every figure is in it once, it reads without a network."""

import json

import nbformat
import pandas as pd
import pytest
from matplotlib.figure import Figure
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lib.run import report
from lib.run.report import ROWS, image_data, main, saved_by, table_html, write_html, write_pdf

RECORD = {
    "started": "2026-01-01T00:00:00+00:00",
    "wall_seconds": 1.5,
    "peak_memory_gib": 0.5,
    "commit": "c" * 40 + "-dirty",
}

WIDGET = {
    "application/vnd.jupyter.widget-view+json": {"model_id": "a"},
    "application/javascript": "$()",
    "text/plain": "bar",
}


def png(folder, name, width_mm=89):
    figure = Figure(figsize=(width_mm / 25.4, 2))
    figure.subplots().plot([1, 2])
    figure.savefig(folder / f"{name}.png", dpi=300)


def output_image():
    return new_output("display_data", {"image/png": "iVBORw0KGgo=", "text/plain": "<Figure>"})


@pytest.fixture
def cells():
    bar = [
        new_output("stream", name="stderr", text=text)
        for text in ("\rfitting: 0%", "\rfitting: 50%", "\rfitting: 100%\n")
    ]
    return {
        "title": new_markdown_cell("# 3 · Evaluation\n\nPredicts **all** scans."),
        "table": new_code_cell('run.save_table(table.round(3), "metrics").head()', execution_count=1, outputs=bar),
        "widget": new_code_cell("show()", outputs=[new_output("display_data", WIDGET)]),
        "unsaved": new_code_cell("draw()", outputs=[output_image()]),
        "caption": new_markdown_cell("**Figure.** Detection with 95 % intervals."),
        "between": new_code_cell('wide = run.save_table(wide, "wide")\nif other:\n    run.save_table(other, "other")'),
        "figure": new_code_cell(
            'run.save_figure(draw(run.save_table(t, "numbers")), "detection")', outputs=[output_image()]
        ),
    }


@pytest.fixture
def run(tmp_path, cells):
    """Folders of a run with one notebook."""
    build, figures = tmp_path / "build" / "demo", tmp_path / "figures" / "demo"
    (figures / "provenance").mkdir(parents=True)
    build.mkdir(parents=True)
    nbformat.write(
        new_notebook(cells=list(cells.values()), metadata={"widgets": {"state": {}}}), build / "03_evaluation.ipynb"
    )
    nbformat.write(new_notebook(cells=[new_code_cell("1 / 0")]), build / "04_next.failed.ipynb")
    record = RECORD | {"parameters": {"data": "", "sizes": [1, 2]}, "versions": {"python": "3.11"}}
    (figures / "provenance" / "03_evaluation.json").write_text(json.dumps(record))
    (figures / "03_metrics.csv").write_text("metric,value\nDice,0.530000\n" + "x,1\n" * 30)
    (figures / "03_wide.csv").write_text(
        ",".join(f"c{i}" for i in range(20)) + "\n" + ",".join(f"v{i}" for i in range(20)) + "\n"
    )
    (figures / "03_numbers.csv").write_text("a\n1\n")
    png(figures, "03_detection")
    measure = {"claim": "C1", "statement": "Segmentation", "paper": "Dice 0.60", "lesions": 5, "patients": 2}
    measure |= {"verdict": "not reproduced", "notebook": "03_evaluation", "file": "03_metrics"}
    rows = [measure | {"text": "Dice 0.53 (0.40 to 0.64)"}, measure | {"text": "nDSC < 0.47", "lesions": 7}]
    pd.DataFrame(rows).to_csv(figures / "claims.csv", index=False)
    return build, figures


def test_what_a_cell_saves_is_found_with_the_caption_before_it_and_whether_it_always_does(cells):
    made = saved_by(new_notebook(cells=list(cells.values())))
    assert made == {
        ("save_table", "metrics"): (cells["table"].id, "", True),
        ("save_table", "wide"): (cells["between"].id, "**Figure.** Detection with 95 % intervals.", True),
        ("save_table", "other"): (cells["between"].id, "**Figure.** Detection with 95 % intervals.", False),
        ("save_table", "numbers"): (cells["figure"].id, "**Figure.** Detection with 95 % intervals.", True),
        ("save_figure", "detection"): (cells["figure"].id, "**Figure.** Detection with 95 % intervals.", True),
    }


def test_numbers_of_the_ledger_lead_to_the_cell_that_wrote_their_table(run, cells):
    html = write_html(*run).read_text()
    link = f'<a href="#cell-id={cells["table"].id}">'
    assert f"{link}Dice 0.53 (0.40 to 0.64)</a>; {link}nDSC &lt; 0.47</a>" in html
    assert html.count(f'id="cell-id={cells["table"].id}"') == 1
    assert "7 lesions,<br>2 patients" in html


def test_verdicts_over_networks_stand_before_those_of_the_run(run):
    claims = pd.read_csv(run[1] / "claims.csv")
    over = {
        "networks": 5,
        "networks_verdict": "inconclusive",
        "networks_text": ["Dice 0.60, SD 0.02", "nDSC 0.5, SD 0.1"],
    }
    claims.assign(**over).to_csv(run[1] / "claims.csv", index=False)
    html = write_html(*run).read_text()
    assert '<td>Dice 0.60, SD 0.02; nDSC 0.5, SD 0.1</td><td class="verdict">inconclusive</td>' in html
    assert "the mean of 5 networks" in html


def test_a_figure_is_embedded_once_at_its_width_in_print(run):
    html = write_html(*run).read_text()
    source = image_data(run[1] / "03_detection.png")["source"]
    assert html.count(source) == 1
    assert f'<img src="{source}" alt="Figure 03_detection" style="--mm: 89.0">' in html
    assert html.count("data:image/png") == 2  # and the one that was shown but not saved
    assert html.count('href="#figure-03_detection"') == 2  # from the contents and from the notebook


def test_tables_keep_their_digits_and_long_ones_say_where_the_rest_is(run):
    html = write_html(*run).read_text()
    assert "<td>0.530000</td>" in html
    assert 'first 10 of 31 rows; in full\nin <a href="03_metrics.csv">' in html
    assert table_html(run[1] / "03_metrics.csv")["html"].count("<tr") == 1 + ROWS
    wide = table_html(run[1] / "03_wide.csv")["html"]
    assert wide.count("<tr>") == 20
    assert "<th>c3</th>\n      <td>v3</td>" in wide


def test_a_progress_bar_is_shown_in_its_last_state(run):
    html = write_html(*run).read_text()
    assert "fitting: 100%" in html
    assert "50%" not in html


def test_scripts_and_widgets_are_left_out_for_their_text(run):
    html = write_html(*run).read_text()
    assert "<pre>bar</pre>" in html
    assert "<script" not in html


def test_a_sweep_is_shown_with_its_question(run):
    folder = run[1] / "sweeps" / "noise"
    folder.mkdir(parents=True)
    assert "Does noise matter?" not in write_html(*run).read_text()
    png(folder, "sweep")
    for name in ("sweep", "plotted"):
        (folder / f"{name}.csv").write_text("noise,value\n0.1,7.25\n")
    (folder / "sweep.json").write_text(json.dumps({"sweep": {"question": "Does noise matter?"}}))
    html = write_html(*run).read_text()
    assert "Does noise matter?" in html
    assert image_data(folder / "sweep.png")["source"] in html
    assert "<td>7.25</td>" in html


def test_the_gallery_comes_first_and_is_said_to_be_missing(run):
    assert "No gallery" in write_html(*run).read_text()
    png(run[1], "gallery", width_mm=183)
    html = write_html(*run).read_text()
    source = html.index(image_data(run[1] / "gallery.png")["source"])
    assert html.index('<li><a href="#gallery">') < html.index('<li><a href="#claims">')
    assert html.index('id="gallery"') < source < html.index('id="claims"')
    assert "No gallery" not in html


def test_a_run_that_stopped_before_the_claims_is_shown_without_them(run):
    (run[1] / "claims.csv").unlink()
    html = write_html(*run).read_text()
    assert "Not judged" in html
    assert 'id="figure-03_detection"' in html


def test_without_a_run_there_is_no_report(run):
    build, figures = run
    (build / "03_evaluation.ipynb").unlink()
    with pytest.raises(FileNotFoundError, match="run `make paper` first"):
        write_html(build, figures)
    assert not (figures / "report.html").exists()


def test_the_report_reads_without_a_network_in_a_browser(run, read_offline):
    seen = read_offline(write_html(*run))
    assert seen == {
        "requests": [],
        "errors": [],
        "broken_links": [],
        "empty_images": ["data:image/png;base64,iVBORw0KGgo="],
    }


def test_a_page_that_needs_the_network_or_lacks_something_would_be_noticed(tmp_path, read_offline):
    page = tmp_path / "page.html"
    page.write_text(
        '<img src="https://example.org/a.png"><a href="#none">a</a><a href="no.csv">b</a><script>no()</script>'
    )
    seen = read_offline(page)
    assert seen["requests"] == seen["empty_images"] == ["https://example.org/a.png"]
    assert seen["broken_links"] == ["#none", "no.csv"]
    assert any("no is not defined" in text for text in seen["errors"])


def test_the_report_is_printed_to_a_pdf(run, chromium):
    pdf = write_pdf(write_html(*run), chromium)
    content = pdf.read_bytes()
    assert content.startswith(b"%PDF")
    assert content.rstrip().endswith(b"%%EOF")
    assert content.count(b"/Type /Page\n") + content.count(b"/Type /Page ") >= 3
    assert sorted(path.name for path in pdf.parent.glob("*report*")) == ["report.html", "report.pdf"]


def test_without_a_chromium_it_is_said_and_the_html_is_there(run, monkeypatch, capsys):
    monkeypatch.setattr(report.shutil, "which", lambda name: None)
    monkeypatch.setenv("RUN_OUT", str(run[0].parents[1]))
    main()
    assert "no PDF: none of chromium" in capsys.readouterr().err
    assert (run[1] / "report.html").exists()
    assert not (run[1] / "report.pdf").exists()
