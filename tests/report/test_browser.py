"""The report in a real browser has no console messages; a screenshot is saved."""

import shutil
import subprocess

import cv2
import pytest

from tests.report.test_page import rendered, rendered_in_persian

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
pytestmark = pytest.mark.skipif(not BROWSER, reason="needs Chromium to lay the page out")


def opened(html, folder, *, width=1100, height=4000):
    """Opens a page; returns its console messages and a screenshot."""
    page, shot = folder / "report.html", folder / f"report_{width}.png"
    page.write_text(html, "utf-8")
    run = subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr", "--v=0",
            f"--window-size={width},{height}", f"--screenshot={shot}", page.as_uri(),
        ],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    return [line for line in run.stderr.splitlines() if "CONSOLE" in line], cv2.imread(str(shot))


@pytest.mark.parametrize("width", [1100, 500])
def test_the_browser_reports_no_problems(tmp_path, width):
    console, shot = opened(rendered(no_face=0.05)[1], tmp_path, width=width)
    assert console == []
    assert shot.shape[1] == width
    assert shot[:3000].std() > 10  # something is drawn
    print(f"screenshot: {tmp_path}/report_{width}.png")


@pytest.mark.parametrize("width", [1100, 500])
def test_a_persian_report_reads_from_right_to_left(tmp_path, width):
    console, shot = opened(rendered_in_persian(no_face=0.05), tmp_path, width=width)
    assert console == []
    first_line = shot[60:90].std(axis=(0, 2))  # shorter than the page in any font
    assert first_line[width // 2 :].max() > 10 > first_line[: width // 4].max()


def test_a_request_would_be_reported(tmp_path):
    html = rendered()[1].replace("</main>", '<img src="http://127.0.0.1:9/x.png" alt=""></main>')
    console, _ = opened(html, tmp_path, height=600)
    assert any("Content Security Policy" in line for line in console)
