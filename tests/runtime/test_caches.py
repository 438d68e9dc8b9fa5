import os
import pathlib
import subprocess
import sys

import pytest

from dnas.runtime import caches


@pytest.fixture
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_folders_are_the_users_alone(home):
    assert caches.folder() == home / "dnas"
    assert caches.folder("xla") == home / "dnas" / "xla"
    assert caches.folder("xla").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", ("dnas", "dnas/xla"))
def test_a_folder_that_others_may_write_to_is_not_trusted(home, name):
    caches.folder("xla")
    (home / name).chmod(0o777)
    assert home not in caches.folder("xla").parents
    assert caches.folder("xla").parent == caches.temporary()


def test_a_folder_of_somebody_else_is_not_trusted(home, monkeypatch):
    caches.folder()
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    assert caches.folder() == caches.temporary()


def test_a_link_is_not_followed(home, tmp_path_factory):
    (home / "dnas").symlink_to(tmp_path_factory.mktemp("elsewhere"))
    assert caches.folder() == caches.temporary()


def test_the_temporary_folder_ends_with_its_process():
    program = "from dnas.runtime import caches; print(caches.temporary())"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert not pathlib.Path(done.stdout.strip()).exists()


def test_what_was_stored_is_known_until_it_changes(home):
    path, partial = home / "library", home / "partial"
    partial.write_bytes(b"code" * 100)
    caches.store(partial, path)
    assert caches.intact(path) and sorted(home.iterdir()) == [path, home / "library.sha256"]
    path.write_bytes(b"code" * 99)
    assert not caches.intact(path)
    assert not caches.intact(home / "absent")


def test_a_file_without_a_digest_or_behind_a_link_is_not_intact(home):
    path, partial = home / "library", home / "partial"
    partial.write_bytes(b"code")
    caches.store(partial, path)
    path.rename(home / "real")
    path.symlink_to(home / "real")
    assert not caches.intact(path)
    path.unlink()
    (home / "real").rename(path)
    assert caches.intact(path)
    (home / "library.sha256").unlink()
    assert not caches.intact(path)
