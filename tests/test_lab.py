"""`make lab` and notebook 00_explore in a real browser: it runs, a lesion is chosen, its map is drawn, nothing leaves the machine."""

import asyncio
import os
import re
import secrets
import shlex
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from urllib.parse import urlparse

import numpy as np
import pytest
from PIL import Image

from lib.explorer.pictures import colour_scale
from lib.explorer.session import Exploration, Settings
from lib.provenance import ROOT
from lib.run.parameters import defaults
from lib.run.report import find_chromium

NOTEBOOK = ROOT / "notebooks" / "00_explore.py"
CHROMIUM = find_chromium()
NO_GPU = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]  # WebGL without a graphics card
PATIENCE_MS = 300_000  # for a busy machine

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="needs Chromium or Chrome: install one, such as apt install chromium"
)


def lab_options():
    """Options that `make lab` gives to JupyterLab."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    words = ["make", "--dry-run", "--old-file=.venv/.complete", "lab"]
    printed = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    return shlex.split(printed.split("jupyter lab")[1].replace("\\\n", " "))


def write_notebook(run, folder):
    """The notebook with the folders of a run as its parameters, and nothing else changed."""
    source = NOTEBOOK.read_text()
    for name in ("build", "figures"):
        line = f'{name} = "{defaults(NOTEBOOK)[name]}"'
        assert line in source
        source = source.replace(line, f'{name} = "{getattr(run, name)}"')
    folder.mkdir()
    (folder / NOTEBOOK.name).write_text(source)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def wait_for(server, port, log):
    """Until the server takes connections; fails with its log if it ends before."""
    while True:
        assert server.poll() is None, log.read_text()
        with socket.socket() as found:
            if found.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)


@pytest.fixture(scope="module")
def lab(explored_run, tmp_path_factory):
    """(port, token) of JupyterLab as `make lab` starts it, in a folder with the notebook on the tiny run."""
    folder = tmp_path_factory.mktemp("lab")
    write_notebook(explored_run, folder / "notebooks")
    port, token, config, log = free_port(), secrets.token_hex(8), folder / "config", folder / "server.log"
    here = ["--no-browser", "--allow-root", f"--ServerApp.root_dir={folder}", f"--ServerApp.port={port}"]
    command = [sys.executable, "-m", "jupyter", "lab", *lab_options(), *here, f"--IdentityProvider.token={token}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JUPYTER_CONFIG_DIR": str(config)}
    with log.open("w") as output:
        server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        wait_for(server, port, log)
        yield port, token
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def page():
    """A page of a new browser that notes what it asks for (`asked`) and what goes wrong in it (`wrong`)."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=NO_GPU)
        page = browser.new_page(viewport={"width": 1500, "height": 1300})
        page.set_default_timeout(PATIENCE_MS)
        page.asked, page.wrong = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("websocket", lambda opened: page.asked.append(opened.url))
        page.on("console", lambda text: text.type == "error" and page.wrong.append(text.text))
        page.on("pageerror", lambda error: page.wrong.append(str(error)))
        yield page
        browser.close()


def picture(page):
    """The pixels of the viewer, (height, width, 3) int."""
    return np.asarray(Image.open(BytesIO(page.locator(".explore canvas").screenshot())).convert("RGB")).astype(int)


def drawn_at(page, key, coloured):
    """The picture after a key on the slider of opacity, once it has a map's colours or none: the kernel may be busy."""
    page.locator(".explore .noUi-handle").press(key)
    end = time.monotonic() + PATIENCE_MS / 1000
    while has_map_colours(drawn := picture(page)) != coloured and time.monotonic() < end:
        page.wait_for_timeout(250)
    return drawn


def has_map_colours(drawn):
    """Whether a picture has more colours than those of the crosshair and the outlines."""
    return len(np.unique(drawn[np.ptp(drawn, 2) > 40], axis=0)) > 5


def strongest_colour(run, kind, label):
    """Of the voxel of largest magnitude in the three planes through a lesion: its RGB, 0 to 255, and opacity, 0 to 1."""
    values = defaults(NOTEBOOK)
    exploration = Exploration(run, **{name: values[name] for name in ("data", "weights", "layer", "device", "seed")})
    opened = exploration.open("sub-001", None)
    lesion = opened.lesions.query("kind == @kind and label == @label").iloc[0]
    settings = Settings("smoothgrad_max", values["n_samples"], values["noise_fraction"])
    work = exploration.explain(opened, lesion, settings, lambda share: None)
    with ThreadPoolExecutor(1) as thread:  # the browser has an event loop in this one
        explained = thread.submit(asyncio.run, work).result()
    x, y, z = opened.middle(lesion)
    flair, scale = explained.maps["FLAIR"], colour_scale(settings.method, explained.maps)
    shown = np.concatenate([plane.ravel() for plane in (flair[x], flair[:, y], flair[:, :, z])])
    *colour, opacity = scale.cmap(scale.norm(shown[np.abs(shown).argmax()]))
    return 255 * np.array(colour), opacity


def test_the_server_is_for_this_machine_and_wants_its_token(lab):
    port, _ = lab
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/api/contents")
    other = next((found[4][0] for found in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)), "127.0.0.1")
    if not other.startswith("127."):
        with socket.socket() as found:
            assert found.connect_ex((other, port)) != 0


def test_a_lesion_is_explained_and_its_map_is_drawn(lab, page, explored_run):
    port, token = lab
    page.goto(f"http://127.0.0.1:{port}/?token={token}")
    page.locator("#jp-main-statusbar").get_by_text("| Idle").wait_for()  # the kernel is up
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()
    said = page.locator(".explore").get_by_text(re.compile("explained in"))
    said.wait_for()
    kind, label = re.match(r"(\w+) (\d+) explained", said.inner_text()).groups()

    for outlines in ("prediction", "annotation"):
        page.locator(".explore").get_by_label(outlines).uncheck()
    without = drawn_at(page, "Home", coloured=False)  # opacity 0
    with_map = drawn_at(page, "End", coloured=True)  # opacity 1
    drawn = np.abs(with_map - without).max(2) > 40
    assert drawn.sum() > 50
    assert np.ptp(without[drawn], 1).mean() < 10 < np.ptp(with_map[drawn], 1).mean()  # grey below, coloured above
    colour, opacity = strongest_colour(explored_run, kind, int(label))
    distance = np.abs(with_map[drawn] - (opacity * colour + (1 - opacity) * without[drawn])).max(1)
    assert (distance < 30).sum() > 5

    page.locator(".explore select[size]").select_option(index=0)
    page.locator(".explore").get_by_text(re.compile(rf"^(?!{kind} {label} ).* explained in")).wait_for()
    page.get_by_role("button", name="Save map and figure").click()
    page.locator(".explore").get_by_text(re.compile("^saved")).wait_for()
    assert len(list((explored_run.build / "explore").glob("*_FLAIR.nii.gz"))) >= 1
    assert {urlparse(url).hostname for url in page.asked if not url.startswith(("data:", "blob:"))} == {"127.0.0.1"}
    assert page.wrong == []
