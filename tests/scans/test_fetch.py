"""Downloads from a server of this machine, and the checksums against the files themselves."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lib.scans.fetch import fetch_files, git_blob, known_files
from lib.scans.public import public_scans

CONTENT = {"a/flair.nii.gz": b"flair", "a/t1w.nii.gz": b"t1w"}
FILES = {path: git_blob(content) for path, content in CONTENT.items()}


class Quiet(SimpleHTTPRequestHandler):
    asked = []

    def log_message(self, *_):
        self.asked.append(self.path)


@pytest.fixture
def server(tmp_path):
    for path, content in CONTENT.items():
        (tmp_path / "there" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "there" / path).write_bytes(content)
    Quiet.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "there")) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_the_checksum_is_that_of_git():
    assert git_blob(b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"  # the empty file in every repository


def test_files_are_downloaded_once_and_a_changed_one_again(server, tmp_path):
    folder = tmp_path / "here"
    fetch_files(server, FILES, folder)
    assert {path: (folder / path).read_bytes() for path in FILES} == CONTENT and len(Quiet.asked) == 2
    fetch_files(server, FILES, folder)
    assert len(Quiet.asked) == 2
    (folder / "a/t1w.nii.gz").write_bytes(b"half")
    fetch_files(server, FILES, folder)
    assert (folder / "a/t1w.nii.gz").read_bytes() == b"t1w" and Quiet.asked[2:] == ["/a/t1w.nii.gz"]


def test_other_content_is_refused_by_name_and_not_kept(server, tmp_path):
    folder = tmp_path / "here"
    with pytest.raises(ValueError, match="a/t1w.nii.gz has other content"):
        fetch_files(server, FILES | {"a/t1w.nii.gz": git_blob(b"other")}, folder)
    assert [file.name for file in (folder / "a").iterdir()] == ["flair.nii.gz"]


def test_a_file_that_is_not_there_is_an_error(server, tmp_path):
    with pytest.raises(OSError, match="404"):
        fetch_files(server, {"b.nii.gz": ""}, tmp_path / "here")


def test_what_is_not_fetched_is_said_how_to_get():
    with pytest.raises(ValueError, match="ljubljana alone can be fetched; isbi2015 is to be had from"):
        known_files("isbi2015")
    with pytest.raises(ValueError, match="known are ljubljana"):
        known_files("")


def test_the_files_of_ljubljana_are_thirty_scans_as_they_are_read(tmp_path):
    for path in known_files("ljubljana"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    assert len(public_scans("ljubljana", tmp_path)) == 30


def test_checksums_are_those_of_real_files(real_scans):
    files = {real_scans / "open_ms_data" / path: checksum for path, checksum in known_files("ljubljana").items()}
    there = {file: checksum for file, checksum in files.items() if file.exists()}
    assert there and {file: git_blob(file.read_bytes()) for file in there} == there
