"""Provenance: what is recorded, digests, and files that appear complete or not at all."""

import pytest

from lib import provenance


def test_describe_names_commit_versions_and_parameters():
    record = provenance.describe("01_data_split", {"seed": 1})
    assert record["parameters"] == {"seed": 1}
    assert record["versions"]["torch"].startswith("2.13")
    assert len(record["commit"].removesuffix("-dirty")) == 40 or record["commit"] == "unknown"


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
