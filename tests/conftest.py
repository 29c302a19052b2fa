"""Fixtures shared by the tests."""

import os
from pathlib import Path

import lib  # noqa: F401  before numpy: it chooses the kernels

# isort: split
import pytest
import torch

from lib.run.report import find_chromium

torch.set_num_threads(1)  # the tests' networks are small: more threads only wait for one another

PATIENCE_MS = 300_000  # with a browser on a busy machine


@pytest.fixture(scope="session")
def real_scans():
    """Folder of the real scans, from REAL_SCANS or ../shared/data beside the checkout; skips if there is none."""
    folder = Path(os.environ.get("REAL_SCANS", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"needs real scans: no folder {folder}; set REAL_SCANS to one that holds open_ms_data")
    return folder


@pytest.fixture(scope="session")
def chromium():
    """Path of a Chromium; skips if there is none."""
    found = find_chromium()
    if found is None:
        pytest.skip("needs a Chromium or Chrome: none was found")
    return found


@pytest.fixture
def read_offline(chromium):
    """Opens an HTML file in a headless browser that is kept from the network, and tells what it asked for and lacked."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright, which is among the dev extras")

    def read(path):
        seen = {"requests": [], "errors": []}
        with api.sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"], timeout=PATIENCE_MS)
            page = browser.new_page()
            page.set_default_timeout(PATIENCE_MS)
            page.route("**/*", lambda route: _only_files(route, seen["requests"]))
            page.on("console", lambda message: seen["errors"].append(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: seen["errors"].append(str(error)))
            page.goto(path.as_uri())
            links = page.eval_on_selector_all("a[href]", "all => all.map(a => a.getAttribute('href'))")
            ids = set(page.eval_on_selector_all("[id]", "all => all.map(one => one.id)"))
            seen["broken_links"] = [
                link for link in links if not (link[1:] in ids if link[0] == "#" else (path.parent / link).exists())
            ]
            seen["empty_images"] = page.eval_on_selector_all(
                "img", "all => all.filter(one => one.naturalWidth == 0).map(one => one.src)"
            )
            browser.close()
        return seen

    return read


def _only_files(route, outside):
    if route.request.url.startswith(("file:", "data:")):
        route.continue_()
    else:
        outside.append(route.request.url)
        route.abort()


@pytest.fixture(scope="session")
def explored_run(tmp_path_factory):
    """The `run.Run` of a tiny run as notebooks 1 to 3 leave it."""
    from tiny_run import make_run

    return make_run(tmp_path_factory.mktemp("explored"))


@pytest.fixture(scope="session")
def work(explored_run, tmp_path_factory):
    """{name: (function, items)} of notebooks 4 to 6 on the tiny run."""
    from lesion_work import make_work

    return make_work(explored_run, tmp_path_factory.mktemp("maps"))
