"""JSON lines without secrets."""

import io
import json
import sys
from pathlib import Path

import numpy as np

from shared.crypto.secret import Secret
from site_agent.logs import log_stream, make_log

SECRET = b"\x13\x37" * 16


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_its_time() -> None:
    stream = io.StringIO()
    make_log("info", stream=stream, site="site-a").info("sealed", study="s", bytes=12)
    (line,) = lines(stream)
    assert line["site"] == "site-a"
    assert (line["event"], line["level"], line["study"], line["bytes"]) == ("sealed", "info", "s", 12)
    assert str(line["at"]).endswith("Z")


def test_levels_below_the_chosen_one_are_left_out() -> None:
    stream = io.StringIO()
    log = make_log("warning", stream=stream)
    log.info("nothing")
    log.warning("something")
    assert [line["event"] for line in lines(stream)] == ["something"]


def test_secrets_bytes_arrays_and_private_names_do_not_get_through() -> None:
    stream = io.StringIO()
    make_log(stream=stream).info(
        "x",
        one=Secret(SECRET),
        two=SECRET,
        three={"token": "FT1-ABC", "nested": [Secret(SECRET), {"seed": "abc"}]},
        four=np.arange(3),
        password="hunter2",
        six="x" * 5000,
    )
    text = stream.getvalue()
    assert "FT1-ABC" not in text
    assert "hunter2" not in text
    assert "abc" not in text
    assert SECRET.hex() not in text
    assert repr(SECRET)[2:-1] not in text
    (line,) = lines(stream)
    assert line["two"] == "<bytes>"
    assert line["four"] == "<ndarray>"
    assert len(str(line["six"])) < 2100


def test_an_exception_is_described_by_type_and_place_only() -> None:
    stream = io.StringIO()
    try:
        raise ValueError(SECRET)
    except ValueError as error:
        make_log(stream=stream).critical("unexpected failure", error=error)
    (line,) = lines(stream)
    assert line["error_type"] == "ValueError"
    assert "test_logs.py" in str(line["error_at"])
    assert SECRET.hex() not in stream.getvalue()
    assert repr(SECRET)[2:-1] not in stream.getvalue()


def test_a_file_takes_the_lines(tmp_path: Path) -> None:
    path = tmp_path / "agent.log"
    for event in ("one", "two"):
        with log_stream(path) as stream:
            make_log(stream=stream).info(event)
    assert [json.loads(line)["event"] for line in path.read_text().splitlines()] == ["one", "two"]
    with log_stream(None) as stream:
        assert stream is sys.stderr
