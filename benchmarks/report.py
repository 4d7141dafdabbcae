"""The report's page at 1,000 workloads: bytes, and how long a browser takes to draw it.

    python -m benchmarks.report [SCREENSHOTS]

With a folder, the screenshots of docs/ are made from data/samples too.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import big_cluster
import browser as browsers

SAMPLES = Path(__file__).parents[1] / "data" / "samples"
RUNS = 5


def page(folder: Path, log: Path, inventory: Path) -> Path:
    store, out = folder / "store", folder / "report.html"
    flowpolicy = [sys.executable, "-m", "recommender.cli"]
    given = ["--inventory", str(inventory)]
    subprocess.run([*flowpolicy, "ingest", str(log), "--store", str(store)], check=True)
    command = [*flowpolicy, "report", "--store", str(store), *given, "--out", str(out)]
    subprocess.run(command, check=True)
    return out


def drawn(path: Path) -> tuple[float, float]:
    """Seconds until the map was drawn: by the clock, and of the page's own processor time."""
    with tempfile.TemporaryDirectory() as profile, browsers.opened(Path(profile)) as chromium:
        found: Any = chromium
        found.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
        found.get(path.as_uri())
        read = "return document.documentElement.dataset.drawnMs"
        clock = float(str(browsers.until(lambda: found.execute_script(read))))
        metrics = found.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
        used = {one["name"]: float(one["value"]) for one in metrics}
        return clock / 1000, used["TaskDuration"]


def screenshots(path: Path, folder: Path) -> None:
    pick = (
        "[...document.querySelectorAll('#list button')].find(b => b.textContent.startsWith('{}'))"
    )
    shots = {
        "report-map": "",
        "report-workload": f"{pick.format('catalog')}.click()",
        "report-window": "document.querySelector('#tab-window').click()",
        "report-review": "document.querySelector('#tab-review').click()",
        "report-dark": "document.querySelector('#tab-map').click();"
        "document.querySelector('input[value=before]').click();"
        "document.querySelector('#theme').click()",
    }
    with tempfile.TemporaryDirectory() as profile, browsers.opened(Path(profile)) as chromium:
        found: Any = chromium
        found.get(path.as_uri())
        read = "return document.documentElement.dataset.drawnMs"
        browsers.until(lambda: found.execute_script(read))
        for name, script in shots.items():
            found.execute_script(script)
            found.execute_async_script("setTimeout(arguments[0], 500)")
            found.save_screenshot(str(folder / f"{name}.png"))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        log, inventory = big_cluster.write(here, workloads=1000, namespaces=25, calls=4000)
        out = page(here, log, inventory)
        runs = [drawn(out) for _ in range(RUNS)]
        clock, used = (statistics.median(column) for column in zip(*runs, strict=True))
        print(f"1,000 workloads, 4,000 calls: {out.stat().st_size / 1e6:.1f} MB")
        print(f"drawn after {clock:.1f} s by the clock, {used:.1f} s of the page's processor time")
    if len(sys.argv) > 1:
        with tempfile.TemporaryDirectory() as folder:
            shown = page(Path(folder), SAMPLES / "hubble", SAMPLES / "inventory.yaml")
            screenshots(shown, Path(sys.argv[1]))


if __name__ == "__main__":
    main()
