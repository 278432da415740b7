import pytest

from thawlab.system.redaction import redacted


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("http://ann:SECRET@host:5000/x", "http://***@host:5000/x"),
        ("https://SECRET@host/x", "https://***@host/x"),
        ("http://:SECRET@host", "http://***@host"),
        ("postgresql+psycopg2://ann:SEC/RET@now@db:5432/runs", "postgresql+psycopg2://***@db:5432/runs"),
        ("postgresql://ann:12345@db/runs?sslpassword=SECRET&x=1", "postgresql://***@db/runs?sslpassword=***&x=1"),
        ("https://host/a?access_token=SECRET&page=2", "https://host/a?access_token=***&page=2"),
        ("https://host/a?X-Amz-Signature=SECRET", "https://host/a?X-Amz-Signature=***"),
        (
            "error: 'tracking.uri=http://a:SECRET@h': nothing answers",
            "error: 'tracking.uri=http://***@h': nothing answers",
        ),
        ("tracking.uri=ann:SECRET@host:5000", "tracking.uri=***@host:5000"),
        ("MLFLOW_TRACKING_URI=http:/ann:SECRET@host", "MLFLOW_TRACKING_URI=***@host"),
    ],
)
def test_what_lets_in_is_taken_out_of_an_address(text, left):
    assert redacted(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:5000/#/experiments/1/runs/2?workflowType=machine_learning",
        "http://host:5000/someone@here",
        "sqlite:////home/ann@work/mlflow.db",
        "uri=127.0.0.1:5000 asked by ann@host",
        "https://host/?monkey=1&author=ann",
        "ann:no address@all",
    ],
)
def test_what_lets_nobody_in_stays(text):
    assert redacted(text) == text
