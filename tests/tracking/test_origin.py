import subprocess

import thawlab
from thawlab.tracking import origin
from thawlab.tracking.processes import this_process


def git(folder, *arguments):
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    done = subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_an_installed_package_is_tagged_with_the_commit_of_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(origin, "_PACKAGE", tmp_path / "site-packages")
    monkeypatch.chdir(tmp_path)
    git(tmp_path, "init")
    (tmp_path / "a.py").write_text("a = 1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    tags = origin.system_tags()
    assert tags["git_commit"] == tags["mlflow.source.git.commit"] == git(tmp_path, "rev-parse", "HEAD")
    assert tags["git_dirty"] == "false"
    (tmp_path / "photos" / "cats").mkdir(parents=True)
    (tmp_path / "photos" / "cats" / "1.jpg").write_bytes(b"")
    assert origin.system_tags()["git_dirty"] == "false"
    (tmp_path / "conf" / "backbone").mkdir(parents=True)
    new = tmp_path / "conf" / "backbone" / "new.yaml"
    new.write_text("name: new")
    assert origin.system_tags()["git_dirty"] == "true"
    new.unlink()
    (tmp_path / "a.py").write_text("a = 2")
    assert origin.system_tags()["git_dirty"] == "true"


def test_no_repository_and_no_git_leave_only_the_git_tags_out(tmp_path, monkeypatch):
    monkeypatch.setattr(origin, "_PACKAGE", tmp_path)
    monkeypatch.chdir(tmp_path)
    expected = {"thawlab_version", "process", "mlflow.source.name", "mlflow.source.type", "mlflow.user"}
    tags = origin.system_tags()
    assert set(tags) == expected
    assert (tags["thawlab_version"], tags["process"]) == (thawlab.__version__, this_process())
    monkeypatch.setenv("PATH", "")
    assert set(origin.system_tags()) == expected


def test_a_user_without_a_name_is_a_number(monkeypatch):
    monkeypatch.setattr(origin.getpass, "getuser", lambda: (_ for _ in ()).throw(KeyError("uid not found")))
    assert origin.system_tags()["mlflow.user"].isdigit()
