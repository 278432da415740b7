import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from thawlab.system.redaction import redacted
from thawlab.tracking.addresses import given, mistake, sqlite_address, sqlite_path, unreachable


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)


@pytest.mark.parametrize(
    "address",
    [
        "http://localhost:5000",
        "https://mlflow.example.org/path",
        "databricks",
        "databricks://profile",
        "sqlite:///mlflow.db",
        "sqlite:////data/mlflow.db",
        "postgresql://u:p@host/db",
        "mysql+pymysql://u@host/db",
    ],
)
def test_an_address_that_mlflow_takes_is_left_alone(address):
    assert mistake("tracking.uri", address) is None


@pytest.mark.parametrize(
    ("address", "use"),
    [
        ("localhost:5000", "use http://localhost:5000, "),
        ("127.0.0.1:5000", "use http://127.0.0.1:5000, "),
        ("mlflow.example.org:5000/x", "use http://mlflow.example.org:5000/x, "),
        ("mlflow.example.org", "for a server use http://mlflow.example.org; "),
        ("https//mlflow.example.org", "use https://mlflow.example.org"),
        ("http:/localhost:5000", "use http://localhost:5000"),
        ("http:localhost:5000", "use http://localhost:5000"),
        ("htp://localhost", "use http://localhost, "),
        ("http://", "use http://HOST:PORT, "),
        ("https:///mlflow", "use https://HOST:PORT, "),
        ('"http://localhost"', "use http://localhost"),
        ("./mlruns", "use sqlite:///./mlruns/mlflow.db, "),
        ("mlruns", "use sqlite:///mlruns/mlflow.db, "),
        ("file:./mlruns", "use sqlite:///./mlruns/mlflow.db, "),
        ("file:///data/mlruns", "use sqlite:////data/mlruns/mlflow.db, "),
        ("mlflow.db", "use sqlite:///mlflow.db"),
        ("sqlite:mlflow.db", "use sqlite:///mlflow.db"),
        ("sqlite:/data/mlflow.db", "use sqlite:////data/mlflow.db"),
        ("sqlite://mlflow.db", "use sqlite:///mlflow.db"),
        ("sqlite://///data/mlflow.db", "use sqlite:////data/mlflow.db"),
        ("sqlite:///", "use sqlite:///./mlflow.db"),
        ("sqlite:///runs/", "use sqlite:///runs/mlflow.db"),
        ("postgres://u:secret@host/db", "use postgresql://***@host/db, "),
        ("s3://bucket/x", "s3:// can hold files, no runs"),
        ("nonsense://x", "use one of http, https, "),
    ],
)
def test_a_mistyped_address_is_told_with_the_right_one(address, use):
    told = mistake("tracking.uri", address)
    assert told is not None
    assert told.startswith(redacted(f"tracking.uri={address}: "))
    assert use in told
    assert "secret" not in told


def test_a_folder_is_an_address_where_mlflow_was_told_to_take_it(monkeypatch, tmp_path):
    (tmp_path / "runs").mkdir()
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert mistake("tracking.uri", "runs") is None
    assert mistake("tracking.uri", "file:./runs") is None


def test_the_setting_goes_before_the_variable_and_blanks_around_it_do_not_count(monkeypatch):
    assert given(None) == ("MLFLOW_TRACKING_URI", None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", " http://there ")
    assert given("") == ("MLFLOW_TRACKING_URI", "http://there")
    assert given("http://here\n") == ("tracking.uri", "http://here")


@pytest.mark.parametrize("name", ["plain", "a b", "ü", "a#b", "100%20", "why?x", "%25?"])
def test_the_address_of_a_file_leads_back_to_it(tmp_path, name):
    path = tmp_path / name / "mlflow.db"
    path.parent.mkdir()
    assert sqlite_path(sqlite_address(path)) == path
    assert sqlite_path(f"sqlite:///{path}") == path  # as a user types it
    assert sqlite_path("sqlite:///x.db") == Path.cwd() / "x.db"


@contextmanager
def web_page(status: int):
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(("status", "usable"), [(200, True), (401, True), (403, True), (500, True), (404, False)])
def test_a_server_is_asked_whether_it_speaks_mlflow(status, usable):
    with web_page(status) as address:
        told = unreachable("tracking.uri", address.replace("//", "//user:secret@"))
    assert (told is None) == usable
    assert usable or "no usable MLflow server there (HTTP 404)" in str(told)
    assert "secret" not in str(told)


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "http://127.0.0.1:port", "http://a b/"])
def test_a_server_that_cannot_be_there_is_told(address):
    told = unreachable("MLFLOW_TRACKING_URI", address)
    assert told is not None
    assert told.startswith(f"MLFLOW_TRACKING_URI={address}: ")


def test_a_file_is_not_asked():
    assert unreachable("tracking.uri", "sqlite:///x.db") is None


def test_a_database_that_does_not_answer_is_told_before_anything_is_loaded():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for login in ("", "ann@", "ann:12/34@now@"):
            address = f"postgresql+psycopg://{login}127.0.0.1:{port}/runs?connect_timeout=3"
            assert unreachable("tracking.uri", address) is None
    by_its_driver = ("postgresql:///runs", "mysql://ann@/runs?unix_socket=/run/x", "postgresql://a:1,b:2/runs")
    for address in (*by_its_driver, "mssql+pyodbc://ann:SECRET@dsn"):
        assert unreachable("tracking.uri", address) is None
    assert unreachable("tracking.uri", f"mysql+pymysql://ann:SECRET@127.0.0.1:{port}/runs") == (
        f"tracking.uri=mysql+pymysql://***@127.0.0.1:{port}/runs: no database there (nothing answers); start it, "
        "correct tracking.uri, or leave it empty for the local store"
    )
