"""The log lines: JSON, without what must not be in them (attack row 27)."""

import json
import logging

import pytest
import structlog

from coordinator.logs import configure_logs


def test_lines_are_json_and_secrets_have_no_field(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs()
    log = structlog.get_logger("test")
    log.info("something", site="site-a", token="MT1-SECRET", share_count=3)
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["site"], line["level"]) == ("something", "site-a", "info")
    assert line["token"] == line["share_count"] == "<not logged>"


def test_tracebacks_show_no_local_variables(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs()
    secret = "MT1-SECRET"
    try:
        raise ValueError(len(secret))
    except ValueError:
        structlog.get_logger("test").exception("failed")
        logging.getLogger("uvicorn.error").exception("failed")
    text = capsys.readouterr().err
    assert "ValueError" in text
    assert secret not in text
    assert all(json.loads(line) for line in text.splitlines())


def test_levels(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("ERROR")
    structlog.get_logger("test").info("quiet")
    assert capsys.readouterr().err == ""
