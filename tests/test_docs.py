"""Help for people stays true: every command shown is run, every option and exit code is told."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest
from api_server import served
from click.testing import CliRunner

from ingest.schema import FLOWS, REJECTS
from recommender import cluster
from recommender.cli import COMMANDS, EXIT_CODES, group

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS_PAGE = (ROOT / "docs" / "commands.md").read_text()
ANSWERS = (0, 10, 11)
_ANN = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org")


def shown(text: str) -> list[str]:
    """The commands of flowpolicy and Git in a page's shell blocks, in their order."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith(("flowpolicy ", "git -C "))]


def command(name: str) -> click.Command:
    found = group.get_command(click.Context(group), name)
    assert found is not None
    return found


def run(line: str) -> None:
    words = shlex.split(line.split(" #", maxsplit=1)[0])[1:]
    if line.startswith("git "):
        subprocess.run(["git", *words], check=True)
        return
    result = CliRunner().invoke(group, words, catch_exceptions=False)
    assert result.exit_code in ANSWERS, f"{line}\n{result.output}"


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(ROOT / "data" / "samples", tmp_path / "data" / "samples")
    monkeypatch.chdir(tmp_path)
    for words in (
        ["init", "-q", "-b", "main"],
        [*_ANN, "commit", "-q", "--allow-empty", "-m", "x"],
    ):
        repository = tmp_path / "policies-repo"
        repository.mkdir(exist_ok=True)
        subprocess.run(["git", *words], cwd=repository, check=True)
    return tmp_path


def test_the_readme_is_one_screen_and_its_commands_run(workplace: Path) -> None:
    assert README.count("\n") <= 60
    lines = shown(README)
    assert len(lines) >= 1
    for line in lines:
        run(line)
    assert (workplace / "flowpolicy-demo" / "report.html").exists()


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.stem)
def test_every_command_in_the_docs_runs_in_its_order(page: Path, workplace: Path) -> None:
    for line in shown(page.read_text()):
        run(line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_that_need_a_server_or_a_bucket_have_the_options_that_are_shown(
    page: Path,
) -> None:
    blocks = re.findall(r"```\n(.*?)```", page.read_text(), re.DOTALL)
    for line in (line for block in blocks for line in block.splitlines()):
        if line.startswith("flowpolicy "):
            _, name, *words = shlex.split(line)
            assert command(name).make_context(name, words).params, line


def test_every_command_is_told_on_some_page() -> None:
    whole = "\n".join(page.read_text() for page in PAGES)
    for name in COMMANDS:
        assert f"flowpolicy {name}" in whole, name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_does_and_help_shows_an_example(name: str) -> None:
    found = command(name)
    assert found.help
    assert found.short_help == COMMANDS[name]
    assert found.epilog is not None
    assert "Example:" in found.epilog
    for parameter in found.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts}"
            assert parameter.help.endswith("."), f"{name} {parameter.opts}"


def test_the_examples_in_the_help_run_in_order(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = ["ingest", "edges", "recommend", "suggest"]  # the others use what these make
    with served() as api:
        for version, kind in cluster.asked()[:12]:  # those that each API server has
            group_path = "api/v1" if version == "v1" else f"apis/{version}"
            api.lists[f"/{group_path}/{cluster.plural(kind)}"] = []
        # What the client takes from KUBECONFIG when it is imported.
        monkeypatch.setattr(
            "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION",
            str(api.kubeconfig(workplace)),
        )
        for name in [*order, *(name for name in COMMANDS if name not in order)]:
            epilog = command(name).epilog
            assert epilog is not None
            for line in epilog.split("Example:\n")[1].strip().splitlines():
                run(line.strip().replace("/tmp/", f"{workplace}/"))


def test_exit_codes_are_the_same_in_help_and_on_the_page_of_commands() -> None:
    in_help = re.findall(r"^ +(\d+) +(.*)$", EXIT_CODES, re.MULTILINE)
    table = COMMANDS_PAGE.split("## Exit codes")[1].split("##")[0]
    in_readme = re.findall(r"^\| (\d+) \| (.*) \|$", table, re.MULTILINE)
    plain = [(code, text.replace("`", "")) for code, text in in_readme]
    assert plain == in_help


def test_every_make_target_has_a_line_of_help() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    told = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))
    assert targets == told


@pytest.mark.parametrize("field", [*FLOWS, *REJECTS], ids=lambda field: field.name)
def test_every_column_of_the_store_is_documented(field: object) -> None:
    metadata = field.metadata  # type: ignore[attr-defined]
    assert metadata[b"doc"].endswith(b".")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_in_the_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page}: {target}"


@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_copied_from_the_help_stands_in_lines_that_break_no_word(name: str) -> None:
    kinds = "ns,no,deploy,sts,ds,rs,job,cj,po,svc,netpol"
    help_ = CliRunner().invoke(group, [name, "--help"]).output
    assert "--inventory PATH" not in help_ or kinds in help_
