"""The page of `flowpolicy report`, in a real browser: what a click shows, and what cannot run."""

import base64
import gzip
import hashlib
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import big_cluster
import browser as browsers
import pytest
from browser import until
from click.testing import CliRunner

from recommender.cli import group
from recommender.report import page_data
from recommender.report.page_data import decide_words

ROOT = Path(__file__).parents[1]
ASSETS = ROOT / "recommender" / "report" / "assets"
SAMPLES = ROOT / "data" / "samples"
Json = dict[str, Any]


def run(*words: str | Path) -> None:
    result = CliRunner().invoke(group, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output


def made(folder: Path, log: Path, inventory: Path | None) -> Path:
    store, out = folder / "store", folder / "report.html"
    given = () if inventory is None else ("--inventory", inventory)
    run("ingest", log, "--store", store)
    run("report", "--store", store, *given, "--out", out)
    return out


def data_of(text: str) -> Json:
    found = re.search(r'<script type="application/gzip" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    data: Json = json.loads(gzip.decompress(base64.b64decode(found[1])))
    return data


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    return made(folder, SAMPLES / "hubble", SAMPLES / "inventory.yaml")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with browsers.opened(tmp_path_factory.mktemp("profile")) as found:
        yield found


def drawn(chromium: Any, path: Path) -> None:
    chromium.get_log("browser")
    chromium.get("about:blank")
    chromium.get(path.as_uri())
    until(lambda: chromium.execute_script("return document.documentElement.dataset.drawnMs"))


def quiet(chromium: Any) -> None:
    assert [e for e in chromium.get_log("browser") if e["level"] in ("SEVERE", "WARNING")] == []


def text(chromium: Any, selector: str) -> str:
    found: str = chromium.find_element("css selector", selector).text
    return found


def click(chromium: Any, selector: str) -> None:
    chromium.execute_script("document.querySelector(arguments[0]).click()", selector)


def click_on_map(chromium: Any, name: str) -> None:
    from selenium.webdriver import ActionChains

    place = chromium.execute_script("return flowpolicy.at(arguments[0])", name)
    canvas = chromium.find_element("css selector", "#map")
    size = canvas.size
    x, y = place["x"] - size["width"] / 2, place["y"] - size["height"] / 2
    ActionChains(chromium).move_to_element_with_offset(canvas, int(x), int(y)).click().perform()


def heading(chromium: Any) -> str:
    return text(chromium, "#panel h2")


def status(chromium: Any) -> str:
    return text(chromium, "#status")


# --- in the browser ----------------------------------------------------------------------------


@browsers.needed
def test_a_click_on_a_workload_shows_its_policy_and_the_evidence_of_each_rule(
    chromium: Any, sample: Path
) -> None:
    drawn(chromium, sample)
    click_on_map(chromium, "shop/Deployment/catalog")
    until(lambda: heading(chromium) == "catalog")
    panel = text(chromium, "#panel")
    assert "shop/web, shop/web-canary on TCP 8080" in panel
    assert re.search(r"[\d,]+ connections on up to 8 days and in \d+ hours, 2026-03-02", panel)
    assert "waits for review: part of a scan" in panel
    click(chromium, "#panel details summary")
    assert "kind: NetworkPolicy" in text(chromium, "#panel pre")
    quiet(chromium)


@browsers.needed
def test_what_a_workload_loses_is_counted_whole_though_the_page_lists_the_first(
    chromium: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_data, "MOST_CONNECTIONS", 5)
    page = made(tmp_path, SAMPLES / "hubble", SAMPLES / "inventory.yaml")
    lost = data_of(page.read_text())["changes"]["lost"]
    count = lost["by_end"]["shop/catalog"]
    listed = sum("shop/catalog" in row[:2] for row in lost["rows"])
    assert len(lost["rows"]) == 5
    drawn(chromium, page)
    click_on_map(chromium, "shop/Deployment/catalog")
    until(lambda: heading(chromium) == "catalog")
    chromium.execute_script("for (const e of document.querySelectorAll('details')) e.open = true")
    panel = text(chromium, "#panel")
    assert f"connections that are closed: {count}" in panel
    assert f"{count - listed} more are not in this page" in panel
    quiet(chromium)


@browsers.needed
def test_a_click_on_a_line_shows_its_edges_and_their_verdicts(chromium: Any, sample: Path) -> None:
    from selenium.webdriver import ActionChains

    drawn(chromium, sample)
    click(chromium, "#legend input[value=review]")
    ends = [
        chromium.execute_script("return flowpolicy.at(arguments[0])", name)
        for name in ("payments/Deployment/ledger", "data/StatefulSet/postgres")
    ]
    canvas = chromium.find_element("css selector", "#map")
    middle = {axis: (ends[0][axis] + ends[1][axis]) / 2 for axis in "xy"}
    for step in range(-40, 41, 3):  # the line is an arc, so it passes near the middle
        x = middle["x"] - canvas.size["width"] / 2
        y = middle["y"] - canvas.size["height"] / 2 + step
        ActionChains(chromium).move_to_element_with_offset(canvas, int(x), int(y)).click().perform()
        if heading(chromium) == "ledger to postgres":
            break
    assert heading(chromium) == "ledger to postgres"
    assert "TCP 5432: allowed by those in force, allowed by the proposals" in (
        text(chromium, "#panel").replace("ledger to postgres ", "")
    )
    quiet(chromium)


@browsers.needed
def test_search_and_filters_narrow_the_map_and_say_so(chromium: Any, sample: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    drawn(chromium, sample)
    whole = status(chromium)
    assert re.fullmatch(r"\d+ ends and \d+ edges shown", whole)
    search = chromium.find_element("css selector", "#search")
    search.send_keys("ledg")
    assert text(chromium, "#list") == "payments\nledger\n11"
    search.send_keys(Keys.ENTER)
    until(lambda: heading(chromium) == "ledger")
    search.clear()
    search.send_keys(" ", Keys.BACKSPACE)
    for selector, value in (("#namespace", "data"), ("#role", "0"), ("#from", "6")):
        before = status(chromium)
        set_select(chromium, selector, value)
        assert status(chromium) != before, selector
        set_select(chromium, selector, "0" if selector == "#from" else "")
        assert status(chromium) == whole
    click(chromium, "#legend input[value=wanted]")
    assert status(chromium) != whole
    quiet(chromium)


def set_select(chromium: Any, selector: str, value: str) -> None:
    chromium.execute_script(
        "const e = document.querySelector(arguments[0]); e.value = arguments[1];"
        "e.dispatchEvent(new Event('change', {bubbles: true}))",
        selector,
        value,
    )


@browsers.needed
def test_the_switch_shows_what_policies_allow_before_and_after(chromium: Any, sample: Path) -> None:
    drawn(chromium, sample)
    assert "waits for review" in text(chromium, "#legend")
    for view in ("before", "after"):
        click(chromium, f"input[name=view][value={view}]")
        assert "denied" in text(chromium, "#legend")
        assert "waits for review" not in text(chromium, "#legend")
    quiet(chromium)


@browsers.needed
def test_a_button_copies_a_decide_command_that_runs(
    chromium: Any, sample: Path, tmp_path: Path
) -> None:
    drawn(chromium, sample)
    click(chromium, "#tab-review")
    assert text(chromium, "#review-count") == str(
        sum(1 for row in data_of(sample.read_text())["edges"]["rows"] if "review" in row)
    )
    chromium.find_element("css selector", "#who").send_keys("alice O'Hara")
    chromium.find_element("css selector", "#why").send_keys("a curl; `id` $(id)")
    click(
        chromium,
        "button.reject[aria-label*='shop/cart to'], button.reject[aria-label*='cart to ledger']",
    )
    copied = chromium.execute_script(
        "return document.querySelector(\"button.reject[aria-label*='cart to ledger']\").dataset.copied"
    )
    words = shlex.split(copied)
    assert words[0] == "flowpolicy"
    assert words[-4:] == ["--who", "alice O'Hara", "--why", "a curl; `id` $(id)"]
    run(*words[1:], "--file", tmp_path / "decisions.yaml")
    quiet(chromium)


@browsers.needed
def test_the_window_has_its_curve_with_interval_and_table(chromium: Any, sample: Path) -> None:
    drawn(chromium, sample)
    click(chromium, "#tab-window")
    told = data_of(sample.read_text())["window"]
    assert text(chromium, "#window-view h2").endswith(told["word"])
    assert all(why in text(chromium, "#window-view") for why in told["why"])
    assert "8 days were watched, 14 are asked for" in text(chromium, "#window-view")
    points = chromium.execute_script("return document.querySelectorAll('.curve polygon').length")
    assert points == 1
    assert "at least 75 exist" in chromium.execute_script(
        "return document.querySelector('.curve').textContent"
    )
    quiet(chromium)


@browsers.needed
def test_what_changes_against_the_policies_in_force_is_listed(chromium: Any, sample: Path) -> None:
    drawn(chromium, sample)
    click(chromium, "#tab-changes")
    shown = text(chromium, "#changes-view")
    assert "4 policies in force, from the inventory" in shown
    assert "removed: NetworkPolicy shop/checkout" in shown
    assert re.search(r"Connections that are closed: [\d,]+", shown)
    quiet(chromium)


@browsers.needed
def test_all_can_be_done_with_the_keyboard(chromium: Any, sample: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    drawn(chromium, sample)
    body = chromium.find_element("css selector", "body")
    body.send_keys("/")
    assert chromium.switch_to.active_element.get_attribute("id") == "search"
    chromium.switch_to.active_element.send_keys("redis", Keys.ENTER)
    until(lambda: heading(chromium) == "redis")
    assert chromium.switch_to.active_element.tag_name == "h2"  # where a screen reader goes on
    chromium.switch_to.active_element.send_keys(Keys.ESCAPE)
    until(lambda: heading(chromium) == "All of it")
    tab = chromium.find_element("css selector", "#tab-map")
    tab.send_keys(Keys.ARROW_RIGHT)
    assert chromium.switch_to.active_element.get_attribute("id") == "tab-review"
    assert chromium.switch_to.active_element.get_attribute("aria-selected") == "true"
    quiet(chromium)


@browsers.needed
def test_a_screen_reader_is_told_the_name_of_everything(chromium: Any, sample: Path) -> None:
    drawn(chromium, sample)
    tree = chromium.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    asked = ("button", "tab", "combobox", "searchbox", "checkbox", "radio", "image", "link")
    nameless = [
        node
        for node in tree
        if not node["ignored"]
        and node["role"]["value"] in asked
        and not node.get("name", {}).get("value")
    ]
    assert nameless == []


@browsers.needed
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_stands_out_from_its_ground_in_light_and_dark(
    chromium: Any, sample: Path, theme: str
) -> None:
    feature = {"name": "prefers-color-scheme", "value": theme}
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    try:
        drawn(chromium, sample)
        colours = chromium.execute_script(
            "const c = getComputedStyle(document.documentElement);"
            "return Object.fromEntries(['paper','box','ink','quiet','accent','wanted','marked',"
            "'review','denied','rejected'].map(n => [n, c.getPropertyValue('--' + n).trim()]))"
        )
    finally:
        chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    for ground in ("paper", "box"):
        for ink in ("ink", "quiet", "accent"):  # WCAG 2.2, 1.4.3
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
        for line in ("wanted", "marked", "review", "denied", "rejected"):  # 1.4.11
            assert contrast(colours[line], colours[ground]) >= 3, (line, ground)


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours, as WCAG 2.2 defines it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@browsers.needed
def test_it_prints_with_every_part_and_without_controls(chromium: Any, sample: Path) -> None:
    drawn(chromium, sample)
    printed = chromium.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    assert len(printed["data"]) > 20_000
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert "Was it watched long enough" in text(chromium, "#window-view")
        assert not chromium.find_element("css selector", "#search").is_displayed()
    finally:
        chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


HOSTILE = (
    "</script><script>window.ran=1</script>",
    "<img src=x onerror=window.ran=1>",
    "'\"><svg/onload=window.ran=1>",
    "<!--<script>",
    "{{window.ran=1}}${window.ran=1}",
    "javascript:window.ran=1",
    "a\u2028b\u202ec",
)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    lines = []
    for number, name in enumerate(HOSTILE):
        client, server = big_cluster.end(name, name), big_cluster.end("shop", f"to{number}")
        server["labels"].append(f"k8s:{name}={name}")
        time, addresses = "2026-03-02T08:00:00.000000001Z", ("10.1.0.1", f"10.2.0.{number}")
        for port, verdict in ((80, "AUDIT"), (81, "DROPPED")):  # one waits, one was denied
            one = big_cluster.line(time, client, server, port, addresses)
            one["flow"] |= {"verdict": verdict, "destination_names": [name]}
            if verdict == "DROPPED":
                one["flow"] |= {"drop_reason_desc": "POLICY_DENIED", "event_type": {"type": 1}}
            lines.append(one)
    for one in lines:  # what stands before the slash is the cluster
        one["node_name"] = one["flow"]["node_name"] = f"{HOSTILE[1]}/node"
    log = folder / "flows.jsonl"
    log.write_text("".join(f"{json.dumps(one)}\n" for one in lines))
    return made(folder, log, None)


@browsers.needed
def test_names_from_logs_run_no_script_wherever_they_are_shown(
    chromium: Any, hostile: Path
) -> None:
    drawn(chromium, hostile)
    buttons = chromium.find_elements("css selector", "#list button")
    shown = {button.text.split("\n")[0] for button in buttons}
    assert "<img src=x onerror=window.ran=1>" in shown
    for i in range(len(buttons)):
        chromium.execute_script(
            "document.querySelectorAll('#list button')[arguments[0]].click()", i
        )
    for tab in ("review", "changes", "window", "about"):
        click(chromium, f"#tab-{tab}")
    assert chromium.execute_script("return window.ran") is None
    assert chromium.execute_script("return document.querySelectorAll('img, svg').length") <= 2
    quiet(chromium)


@browsers.needed
def test_the_policy_of_the_page_stops_a_script_that_got_in_all_the_same(
    chromium: Any, sample: Path
) -> None:
    drawn(chromium, sample)
    chromium.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
        "document.body.append(s); document.body.setAttribute('onclick', 'window.ran = 1');"
        "document.body.click();"
        "fetch('data:text/plain,x').catch(() => { window.refused = true; });"
    )
    until(lambda: chromium.execute_script("return window.refused"))
    assert chromium.execute_script("return window.ran") is None
    chromium.get_log("browser")


def test_a_thousand_workloads_stay_below_five_megabytes(big: Path) -> None:
    assert big.stat().st_size < 5_000_000
    assert len(data_of(big.read_text())["policies"]) == 1000


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("big")
    log, inventory = big_cluster.write(folder, workloads=1000, namespaces=25, calls=4000)
    return made(folder, log, inventory)


@browsers.needed
def test_a_thousand_workloads_are_drawn(chromium: Any, big: Path) -> None:
    drawn(chromium, big)
    assert status(chromium).startswith("1,000 ends")
    click_on_map(chromium, "team-03/Deployment/svc-03-07")
    until(lambda: heading(chromium) == "svc-03-07")
    quiet(chromium)


# --- without one -------------------------------------------------------------------------------


def test_the_page_loads_nothing_and_runs_the_bundled_script_only(sample: Path) -> None:
    whole = sample.read_text()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', whole)
    assert policy is not None
    parts = dict(part.strip().split(" ", 1) for part in policy[1].split(";"))
    assert parts["default-src"] == "'none'"
    assert re.fullmatch(r"'sha256-[A-Za-z0-9+/=]{44}'", parts["script-src"])
    assert re.fullmatch(r"'sha256-[A-Za-z0-9+/=]{44}'", parts["style-src"])
    assert parts["base-uri"] == parts["form-action"] == "'none'"
    assert not re.search(r'(?:src|href)="(?!#)', whole.split("<script")[0])


def test_the_data_cannot_leave_its_element(hostile: Path) -> None:
    whole = hostile.read_text()
    assert whole.count("<script") == 2
    data = data_of(whole)
    assert {end["label"] for end in data["ends"]} >= {"<img src=x onerror=window.ran=1>"}
    assert {row[4] for row in data["edges"]["rows"]} == {"review", "denied"}


def test_the_same_store_gives_the_same_page(sample: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.html"
    inventory = SAMPLES / "inventory.yaml"
    run("report", "--store", sample.parent / "store", "--inventory", inventory, "--out", again)
    assert again.read_bytes() == sample.read_bytes()


def test_a_decision_is_made_of_plain_names_only() -> None:
    row = dict.fromkeys(("client_address", "server_address"))
    for role in ("client", "server"):
        row |= {f"{role}_type": "workload", f"{role}_namespace": "shop", f"{role}_kind": "Job"}
        row[f"{role}_name"] = "cart"
    row |= {"protocol": "TCP", "port": 80}
    assert decide_words(row) == (
        "--client shop/Job/cart --server shop/Job/cart --protocol TCP --port 80"
    )
    for name in ("a b", "$(id)", "a;b", "a'b", "a\nb", "-x/../y z", "`id`"):
        assert decide_words(row | {"server_name": name}) is None


def test_the_bundle_was_made_from_the_sources_beside_it() -> None:
    sources = [*(ROOT / "report" / "src").iterdir()]
    sources += [ROOT / "report" / name for name in ("build.mjs", "package-lock.json")]
    named = {str(path.relative_to(ROOT / "report")): path for path in sources}
    found = hashlib.sha256(b"".join(named[name].read_bytes() for name in sorted(named)))
    told = (ASSETS / "made-from.txt").read_text().strip()
    assert told == found.hexdigest(), "run `make report-assets`"


def test_what_is_bundled_is_licensed_in_the_page(sample: Path) -> None:
    whole = sample.read_text()
    lock = json.loads((ROOT / "report" / "package-lock.json").read_text())["packages"]
    bundled = {
        name.removeprefix("node_modules/")
        for name, one in lock.items()
        if name and not one.get("dev")
    }
    assert bundled
    for name in bundled:
        assert f"{name} {lock[f'node_modules/{name}']['version']} (MIT)" in whole
