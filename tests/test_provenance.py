"""Provenance: what is recorded, digests, and files that appear complete or not at all."""

import subprocess

import pytest

from lib import provenance


def test_describe_names_commit_versions_and_parameters():
    record = provenance.describe("01_data_split", {"seed": 1})
    assert record["parameters"] == {"seed": 1}
    assert record["versions"]["torch"].startswith("2.13")
    assert len(record["commit"].removesuffix("-dirty")) == 40 or record["commit"] == "unknown"


def test_what_a_run_writes_makes_the_code_no_other(tmp_path):
    def git(*words):
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        return subprocess.run(
            ["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True, text=True
        ).stdout

    assert provenance.git_commit(tmp_path) == "unknown"
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
        assert provenance.git_commit(tmp_path) == expected


def test_digest_tells_values_and_file_contents_apart(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"1")
    first = provenance.digest({"a": 1, "b": 2}, file)
    assert first == provenance.digest({"b": 2, "a": 1}, file)
    assert first != provenance.digest({"a": 1, "b": 3}, file)
    file.write_bytes(b"2")
    assert first != provenance.digest({"a": 1, "b": 2}, file)


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "table.csv"
    provenance.write_atomically(path, lambda file: file.write_text("old"))

    def fail(file):
        file.write_text("half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        provenance.write_atomically(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_lib_files_follows_imports_through_lib(tmp_path):
    script = tmp_path / "notebook.py"
    script.write_text("from lib import metrics\nimport numpy\n")
    names = {file.name for file in provenance.lib_files(script)}
    assert {"metrics.py", "lesions.py"} <= names  # metrics imports lesions
    assert "training.py" not in names
