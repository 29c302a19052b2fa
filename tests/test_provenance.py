"""Provenance: what is recorded, digests, and files that appear complete or not at all."""

import inspect
import subprocess

import pytest

from lib.network import predict_scan, train_network
from lib.provenance import ROOT, code_digest, digest, git_commit, kept_folder, lib_files, run_record, write_atomically
from lib.saliency import explain_instances


def test_describe_names_commit_versions_and_parameters():
    record = run_record("01_data_split", {"seed": 1})
    assert record["parameters"] == {"seed": 1}
    assert record["versions"]["torch"].startswith("2.13")
    assert len(record["commit"].removesuffix("-dirty")) == 40 or record["commit"] == "unknown"


def test_what_a_run_writes_makes_the_code_no_other(tmp_path):
    def git(*words):
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        return subprocess.run(
            ["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True, text=True
        ).stdout

    assert git_commit(tmp_path) == "unknown"
    (tmp_path / "figures").mkdir()
    files = [tmp_path / name for name in ("README.md", "figures/a.csv", "code.py")]
    for file in files:
        file.write_text("1")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    commit = git("rev-parse", "HEAD").strip()
    for file, expected in zip(files, (commit, commit, f"{commit}-dirty"), strict=True):
        file.write_text("2")
        assert git_commit(tmp_path) == expected


def test_digest_tells_values_and_file_contents_apart(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"1")
    first = digest({"a": 1, "b": 2}, file)
    assert first == digest({"b": 2, "a": 1}, file)
    assert first != digest({"a": 1, "b": 3}, file)
    file.write_bytes(b"2")
    assert first != digest({"a": 1, "b": 2}, file)


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "table.csv"
    write_atomically(path, lambda file: file.write_text("old"))

    def fail(file):
        file.write_text("half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_lib_files_follows_imports_through_lib(tmp_path):
    script = tmp_path / "notebook.py"
    script.write_text("from lib.lesions import dice\nimport numpy\n")
    files = {str(file.relative_to(ROOT)) for file in lib_files(script)}
    assert files == {"lib/lesions/metrics.py", "lib/lesions/instances.py"}  # metrics imports instances


def test_lib_files_follows_names_that_a_room_hands_out_of_a_room_in_it(tmp_path):
    script = tmp_path / "notebook.py"
    script.write_text("from lib.network import NORMALISATION\n")
    assert "lib/network/published/normalisation.py" in {str(file.relative_to(ROOT)) for file in lib_files(script)}


def test_a_folder_is_emptied_when_what_it_is_made_from_changes(tmp_path):
    kept = kept_folder(tmp_path / "maps", "a", {"n": 1}) / "map.txt"
    kept.write_text("1")
    assert (kept_folder(tmp_path / "maps", "a", {"n": 1}) / "map.txt").exists()
    assert not (kept_folder(tmp_path / "maps", "a", {"n": 2}) / "map.txt").exists()


def test_the_digest_of_code_is_another_with_other_versions_of_packages(monkeypatch):
    before = code_digest(digest)
    code_digest.cache_clear()
    monkeypatch.setattr("lib.provenance.versions", lambda: {"torch": "1.0"})
    assert code_digest(digest) != before
    code_digest.cache_clear()


@pytest.mark.parametrize("function", [predict_scan, explain_instances, train_network])
def test_the_code_that_results_are_kept_by_includes_what_loads_and_normalises_scans(function):
    files = {str(file.relative_to(ROOT)) for file in lib_files(inspect.getsourcefile(function))}
    assert "lib/scans/images.py" in files
