"""Messages: one line each, harmless to a terminal, and printed on every terminal."""

import io
import logging
import os
import sys

import pytest

from fer_jax import console


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("کاوه/شاد\u200cی.jpg", "کاوه/شاد\u200cی.jpg"),  # Persian, with a zero-width non-joiner
        ("a\x1b[31mred", r"a\x1b[31mred"),
        ("a\x9b2J", r"a\x9b2J"),
        ("a\rb\x07\x7f", r"a\x0db\x07\x7f"),
        ("a\nerror: forged", r"a\nerror: forged"),
        ("a\u2028b", r"a\u2028b"),
        ("gpj.\u202exe", r"gpj.\u202exe"),
        ("\u2066x\u2069", r"\u2066x\u2069"),
        (b"caf\xe9\xff.jpg".decode("utf-8", "surrogateescape"), r"caf\xe9\xff.jpg"),
        ("\ud800", r"\ud800"),
        ("tab\tstays", "tab\tstays"),
    ],
    ids=ascii,  # the messages between test processes are UTF-8
)
def test_a_message_is_one_harmless_line(capsys, text, printed):
    console.say(text)
    console.warn(text)
    captured = capsys.readouterr()
    assert captured.out == printed + "\n"
    assert captured.err == f"warning: {printed}\n"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_letter_that_the_terminal_cannot_encode_is_escaped(monkeypatch, encoding):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding, errors="strict"))
    console.say("شاد.jpg")
    expected = "شاد.jpg" if encoding == "utf-8" else r"\u0634\u0627\u062f.jpg"
    assert raw.getvalue().decode(encoding) == expected + "\n"


def test_a_closed_terminal_does_not_end_the_work(monkeypatch):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    console.say("nobody reads this")
    monkeypatch.setattr(sys, "stdout", None)
    console.say("nor this")


def test_a_closed_pipe_does_not_end_the_work(monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        console.say("nobody reads this")
        stream.write("nor this")
        stream.flush()


@pytest.mark.parametrize(
    ("verbosity", "expected"),
    [
        (None, ["ours", "warning: lib: careful"]),
        (-2, []),
        (-1, ["warning: lib: careful"]),
        (0, ["ours", "info: lib: news", "warning: lib: careful"]),
        (1, ["ours", "debug: lib: detail", "info: lib: news", "warning: lib: careful"]),
    ],
)
def test_messages_of_libraries_are_shown_from_warnings_on(
    restored_logging, capsys, verbosity, expected
):
    console.configure(verbosity)
    console.say("ours")
    library = logging.getLogger("lib")
    library.debug("detail")
    library.info("news")
    library.warning("careful")
    captured = capsys.readouterr()
    assert sorted(captured.out.splitlines() + captured.err.splitlines()) == sorted(expected)
    assert console.debugging() == (verbosity == 1)


def test_a_message_of_a_library_is_one_harmless_line_too(restored_logging, capsys):
    console.configure()
    logging.getLogger("lib").warning("cannot read %s\nsecond line", "a\x1b[2J.jpg")
    assert capsys.readouterr().err == r"warning: lib: cannot read a\x1b[2J.jpg; second line" + "\n"


def test_an_error_that_orbax_also_raises_is_not_logged(restored_logging, capsys):
    where = "site-packages/orbax/checkpoint/manager.py"
    for verbosity in (None, 0):
        console.configure(verbosity)
        for level in (logging.WARNING, logging.ERROR):
            record = logging.LogRecord("absl", level, where, 1, "not saved", (), None)
            logging.getLogger("absl").handle(record)
    assert capsys.readouterr().err.splitlines() == [
        *("warning: absl: not saved", "warning: absl: not saved", "error: absl: not saved")
    ]
