"""Messages: one line each, harmless to a terminal, and printable on every terminal."""

import io
import logging
import os
import re
import sys
import threading

import pytest

from fer_jax import console
from fer_jax.languages.language import speaking


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


class Terminal(io.StringIO):
    """A terminal of unknown width."""

    def isatty(self):
        return True


class Clock:
    """A clock that a test advances."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def marks(monkeypatch):
    """The function that writes a progress mark if one is due, and its clock; no thread runs."""
    monkeypatch.setattr(threading.Thread, "start", lambda thread: None)  # the test is the thread
    monkeypatch.setattr(threading.Thread, "join", lambda thread: None)
    clock = Clock()
    with console.signs_of_life(clock) as write_if_due:
        yield write_if_due, clock


def passing(marks, seconds, work=lambda: None):
    """Advances the clock second by second; each time calls `work`, and writes a mark if due."""
    write_if_due, clock = marks
    for _ in range(seconds):
        clock.now += 1.0
        work()
        write_if_due()


def test_without_a_terminal_ten_seconds_of_silence_give_a_mark(marks, capsys):
    with console.Progress(total=400) as progress:
        passing(marks, 9, lambda: progress.update(4))
        assert capsys.readouterr().err == ""
        passing(marks, 1, lambda: progress.update(4))
        assert capsys.readouterr().err == "  after 10 s: 10 %"
        passing(marks, 9, lambda: progress.update(4))
        assert capsys.readouterr().err == ""
        passing(marks, 1, lambda: progress.update(4))
        assert capsys.readouterr().err == ", 20 %"
        passing(marks, 10)  # which do not advance the percentage
        assert capsys.readouterr().err == ", 20 %"


def test_every_mark_of_a_line_has_the_same_unit(marks, capsys):
    passing(marks, 20)
    with console.Progress(total=1000) as progress:
        passing(marks, 10)
        passing(marks, 20, lambda: progress.update(5))
    with console.Progress(unit="frame") as progress:
        passing(marks, 20, lambda: progress.update(100))
    assert capsys.readouterr().err == (
        "  still working: 10 s, 20 s, 30 s\n  after 40 s: 5 %, 10 %, 1,000 frames, 2,000 frames"
    )


def test_marks_are_in_the_language_of_the_last_message(marks, capsys):
    with speaking("fa"):
        console.say("آغاز")
        passing(marks, 10)
        with console.Progress(total=100) as progress:
            passing(marks, 20, progress.update)
    assert re.sub("[\u061c\u200e]", "", capsys.readouterr().err) == (
        "  هنوز مشغول کار: ۱۰ ثانیه\n  پس از ۲۰ ثانیه: ۱۰٪، ۲۰٪"
    )


def test_a_message_ends_the_line_of_marks_and_the_silence(marks, capsys):
    passing(marks, 19)
    console.say("the result")
    passing(marks, 9)
    assert tuple(capsys.readouterr()) == ("the result\n", "  still working: 10 s\n")
    passing(marks, 1)
    console.warn("careful")
    assert capsys.readouterr().err == "  still working: 10 s\nwarning: careful\n"


def test_an_hour_of_work_gives_few_short_lines(marks, capsys):
    with console.Progress(total=3600) as progress:
        passing(marks, 3600, progress.update)
    console.say("the result")
    written = capsys.readouterr().err
    assert len(re.findall(r"\d+ %|\d+ s(?!:)", written)) == 360
    lines = written.splitlines()
    assert max(map(len, lines)) <= 80 and len(lines) <= 40
    assert "\r" not in written and "\x1b" not in written


def test_the_innermost_progress_is_a_part_of_the_outer_ones(capsys):
    with console.Progress(total=4, unit="training") as folds:
        folds.update()
        with console.Progress(total=10) as steps:
            for _ in range(5):
                steps.update()
            assert folds.mark() == "38 %"  # 1.5 of 4
        with console.Progress(total=10) as steps:  # a second training of this fold
            steps.update()
            assert folds.mark() == "38 %"
        folds.update()
        assert folds.mark() == "50 %"
        with console.Progress(unit="frame", shown=False) as hidden:
            hidden.update(7)
            assert (folds.mark(), hidden.mark()) == ("50 %", "7 frames")
    assert tuple(capsys.readouterr()) == ("", "")


def test_on_a_terminal_progress_is_one_bar_that_disappears(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with console.signs_of_life(), console.Progress(total=2, unit="training") as folds:
        for _ in range(2):
            with console.Progress(total=3) as steps:
                for _ in range(3):
                    steps.update()
            folds.note("loss 0.1")
            folds.update()
    drawn = terminal.getvalue()
    assert "\n" not in drawn and "0 % |" in drawn
    assert drawn.endswith("\r") and not drawn.rsplit("\r", 2)[1].strip()


def test_a_bar_is_in_the_language_of_messages(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with speaking("fa"), console.Progress(total=4, unit="frame") as frames:
        frames.note("زیان 0.25, 3")
        frames.update(2)
    drawn = terminal.getvalue()
    assert "۰٪ |" in drawn and " از ۴ فریم، " in drawn and "مانده" in drawn
    assert not re.search("[0-9A-Za-z]", drawn.replace("\x1b[A", ""))


def test_bars_leave_no_threads(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    before = threading.active_count()
    for _ in range(2):
        with console.Progress(total=2) as steps:
            steps.update()
    assert threading.active_count() == before


def test_a_message_of_another_thread_does_not_change_the_language_of_marks(capsys):
    clock = Clock()
    with speaking("fa"), console.signs_of_life(clock) as write_if_due:
        console.say("آغاز")
        other = threading.Thread(target=console.warn, args=("by a library",))
        other.start()
        other.join()
        clock.now = 10.0
        write_if_due()
    assert "هنوز" in capsys.readouterr().err


@pytest.mark.parametrize("columns", [0, 80])
def test_a_terminal_without_columns_shows_marks(monkeypatch, columns):
    terminal = Terminal()
    monkeypatch.setattr(terminal, "fileno", lambda: 2)
    monkeypatch.setattr(os, "get_terminal_size", lambda number: os.terminal_size((columns, 24)))
    monkeypatch.setattr(sys, "stderr", terminal)
    clock = Clock()
    with console.signs_of_life(clock) as write_if_due, console.Progress(total=4) as steps:
        clock.now = 10.0
        steps.update()
        write_if_due()
    marks = ("  after 10 s: 25 %\n", "")
    assert (terminal.getvalue() == marks[0]) == (columns == 0)
    assert ("\r" in terminal.getvalue()) == (columns == 80)


def test_a_table_is_aligned():
    rows = [("run", "accuracy"), ("starter", "97.0 %"), ("x", "7.5 %")]
    assert console.table(rows) == [
        "  run      accuracy",
        "  starter    97.0 %",
        "  x           7.5 %",
    ]


def test_a_count_has_its_noun():
    assert console.count(1, "video") == "1 video"
    assert console.count(1024, "frame") == "1,024 frames"
    assert [console.count(n, "person", "people") for n in (0, 1)] == ["0 people", "1 person"]


def test_details_are_shown_with_verbosity_1(restored_logging, capsys):
    for verbosity in (None, 0, 1):
        console.configure(verbosity)
        console.detail("a=1", f"verbosity={verbosity}")
    assert capsys.readouterr().out == "a=1\nverbosity=1\n"
