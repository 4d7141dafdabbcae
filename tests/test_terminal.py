"""What stands on a terminal and in a pipe; sentences, completion, the demo."""

import gzip
import os
import pty
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given as given_of_hypothesis
from hypothesis import strategies as st

from recommender.cli import COMMANDS, group
from recommender.report.lines import folded, printable

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "data" / "samples"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def run(*words: str | Path) -> str:
    result = CliRunner().invoke(group, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    store = tmp_path_factory.mktemp("terminal") / "store"
    run("ingest", SAMPLES / "hubble", "--store", store)
    return "--store", str(store), "--inventory", str(SAMPLES / "inventory.yaml")


def on_terminal(*words: str, **environment: str) -> str:
    """What the command writes to a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    keep = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    process = subprocess.Popen(
        [sys.executable, "-m", "recommender.cli", *words],
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        env={**keep, "TERM": "xterm-256color", "COLUMNS": "80", **environment},
    )
    os.close(theirs)
    parts = []
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux says so when the other side is closed
            break
        if not part:
            break
        parts.append(part)
    os.close(ours)
    assert process.wait() == 0
    return b"".join(parts).decode()


def test_a_table_fits_eighty_columns_and_keeps_every_name(given: tuple[str, ...]) -> None:
    shown = on_terminal("edges", *given)
    lines = [COLOUR.sub("", line) for line in shown.splitlines()]
    assert max(map(len, lines)) <= 80
    assert "client" in lines[0] + lines[1]
    assert "payments/gatewa" in "".join(lines)


def test_what_waits_for_a_decision_is_a_table_of_eighty_columns(given: tuple[str, ...]) -> None:
    shown = COLOUR.sub("", on_terminal("patterns", *given))
    assert max(map(len, shown.splitlines())) <= 80
    assert re.search(r"client +server +port +why", shown)
    assert re.search(r"shop/catalog +169\.254\.169\.254 +TCP 80 ", shown)
    assert re.search(r"data/log-agent +192\.168\.10\.5 +TCP 6443", shown)


def test_long_lines_go_on_deeper_on_a_terminal(given: tuple[str, ...], tmp_path: Path) -> None:
    out, policies = str(tmp_path / "out"), str(SAMPLES / "policies")
    diff = ("diff", policies, policies, "--inventory", given[3])
    for command in (("recommend", *given, "--out", out), diff):
        lines = on_terminal(*command).splitlines()
        # No path is cut in two, however long.
        assert not [line for line in lines if len(line) > 80 and not {out, policies} & in_(line)]
        assert any(line.startswith("    ") for line in lines)


def in_(line: str) -> set[str]:
    """The words of a line, and of its paths the folder too."""
    words = line.split()
    return {*words, *(str(Path(word).parent) for word in words)}


@given_of_hypothesis(st.text(), st.integers(1, 100))
def test_folding_a_line_loses_no_word(line: str, width: int) -> None:
    line = printable(line)
    assert folded(line, width).split() == line.split()


def test_a_reader_that_has_seen_enough_is_no_failure(given: tuple[str, ...]) -> None:
    words = [sys.executable, "-c", "from recommender.cli import main; main()", "edges", *given]
    for output in ("text", "csv"):
        process = subprocess.Popen(
            [*words, "-o", output], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
        )
        with process:
            assert process.stdout
            process.stdout.close()
            assert process.stderr
            assert b"Traceback" not in process.stderr.read()
        assert process.returncode == 0


def test_no_color_is_honoured(given: tuple[str, ...]) -> None:
    assert "\x1b[1m" in on_terminal("edges", *given)
    shown = on_terminal("edges", *given, NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", shown)


def test_pipes_get_plain_lines(given: tuple[str, ...]) -> None:
    shown = run("edges", *given)
    assert "\x1b" not in shown
    assert "shop/web -> shop/cart TCP 8080  714 connections  wanted: delivered" in shown


def test_a_workload_is_explained_in_sentences(given: tuple[str, ...]) -> None:
    told = run("explain", "shop/catalog", *given)
    assert "shop/catalog is a Deployment that plays role" in told
    assert "ingress rule 0 lets in shop/web, shop/web-canary on TCP 8080, because " in told
    assert "more wait for a decision: part of a scan" in told
    assert "TCP 80 waits for a decision: the cloud's metadata service" in told
    for line in told.splitlines():
        assert line.endswith("."), line


def test_a_policy_is_explained_by_its_name_or_its_file(given: tuple[str, ...]) -> None:
    told = run("explain", "shop/catalog", *given)
    assert run("explain", "shop/flowpolicy-catalog", *given) == told
    assert run("explain", "out/policies/shop/catalog.yaml", *given) == told
    assert run("explain", "shop/Deployment/catalog", *given) == told


def test_an_edge_is_explained_with_the_rules_that_decide_it(given: tuple[str, ...]) -> None:
    told = run("explain", "shop/web", "shop/cart", *given)
    assert "shop/web -> shop/cart TCP 8080 is wanted: delivered." in told
    assert "The proposals allow it: egress allow by shop/flowpolicy-web rule" in told
    told = run("explain", "shop/catalog", "169.254.169.254", *given)
    assert "is review: the cloud's metadata service gives out credentials." in told
    assert "The proposals deny it: egress default deny" in told


def test_a_name_that_is_not_there_gets_the_nearest_one(given: tuple[str, ...]) -> None:
    result = CliRunner().invoke(group, ["explain", "shop/catalg", *given])
    assert result.exit_code == 1
    assert "did you mean shop/catalog?" in result.output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_commands_and_options(shell: str) -> None:
    program = Path(sysconfig.get_path("scripts")) / "flowpolicy"
    if not program.exists():
        pytest.skip("flowpolicy is not installed beside this Python")

    def ask(**environment: str) -> str:
        whole = {**os.environ, **environment}
        done = subprocess.run([program], env=whole, capture_output=True, text=True, check=False)
        return done.stdout

    script = ask(_FLOWPOLICY_COMPLETE=f"{shell}_source")
    assert "flowpolicy" in script
    asked: Any = {"_FLOWPOLICY_COMPLETE": f"{shell}_complete"}
    for words, incomplete, place, wanted in (
        ("flowpolicy ", "", "1", set(COMMANDS)),
        ("flowpolicy edges --inv", "--inv", "2", {"--inventory"}),
    ):
        own = incomplete if shell == "fish" else place
        answer = ask(**asked, COMP_WORDS=words, COMP_CWORD=own)
        assert wanted <= set(re.split(r"[\s,]+", answer)), answer


def test_a_verdict_does_not_repeat_its_reasons_as_what_would_have_to_change() -> None:
    told = run(
        *("verdict", SAMPLES / "policies", "--inventory", SAMPLES / "inventory.yaml"),
        *("--src", "shop/cart", "--dst", "data/postgres", "--port", "5432"),
    )
    assert ": denied" in told
    reasons, _, changes = told.partition("to allow it")
    assert not changes or set(changes.splitlines()[1:]) != set(reasons.splitlines()[1:])


def test_one_decision_is_one(tmp_path: Path) -> None:
    words = ["decide", "reject", "--file", str(tmp_path / "d.yaml"), "--client", "a/b"]
    words += ["--server", "c/d", "--who", "alice", "--why", "no"]
    result = CliRunner().invoke(group, words)
    assert "1 decision;" in result.stderr


def test_the_demo_works_from_a_wheel_away_from_the_repository(tmp_path: Path) -> None:
    setuptools = pytest.importorskip("setuptools")
    assert setuptools
    build = "from setuptools import build_meta; import sys; build_meta.build_wheel(sys.argv[1])"
    source = tmp_path / "source"
    for name in ("ingest", "recommender"):
        shutil.copytree(ROOT / name, source / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    subprocess.run(
        [sys.executable, "-c", build, tmp_path / "wheel"],
        cwd=source,
        check=True,
        capture_output=True,
    )
    (wheel,) = (tmp_path / "wheel").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    away = tmp_path / "away"
    away.mkdir()
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); from recommender.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, tmp_path / "site", "demo", "--no-open"],
        cwd=away,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "site") in done.stdout
    assert "$ flowpolicy report" in done.stdout
    last = "The policies are in flowpolicy-demo/policies; apply none before you have read them."
    assert done.stdout.splitlines()[-2:] == ["", last]
    assert (away / "flowpolicy-demo" / "report.html").stat().st_size > 500_000
    assert (away / "flowpolicy-demo" / "policies" / "shop" / "catalog.yaml").exists()


def test_one_of_a_kind_is_no_plural(tmp_path: Path) -> None:
    with gzip.open(SAMPLES / "hubble" / "node-1.jsonl.gz", "rt") as log:
        (tmp_path / "one.jsonl").write_text(log.readline())
    store = ("--store", str(tmp_path / "store"))
    inventory = ("--inventory", str(SAMPLES / "inventory.yaml"))
    assert run("ingest", str(tmp_path / "one.jsonl"), *store).startswith("1 file, 1 line in ")
    assert "  1 connection  wanted" in run("edges", *store, *inventory)
    said = run("recommend", *store, *inventory, "--out", str(tmp_path / "out"))
    assert "replayed 1 wanted edge: all allowed" in said
