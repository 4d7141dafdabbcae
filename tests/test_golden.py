"""What the samples give, word for word; `make golden` writes it anew, to be read before a commit."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from recommender.cli import group

ROOT = Path(__file__).parent.parent
SAMPLES, GOLDEN = ROOT / "data" / "samples", ROOT / "tests" / "golden"
INVENTORY = ("--inventory", str(SAMPLES / "inventory.yaml"))
FORMS = {
    "kubernetes": (),
    "cilium": ("--dialect", "cilium"),
    "calico": ("--dialect", "calico"),
    "kubernetes-by-role": ("--by", "role"),
    "cilium-audit": ("--dialect", "cilium", "--rollout", "audit"),
    "calico-staged": ("--dialect", "calico", "--rollout", "staged"),
}
pytestmark = pytest.mark.xdist_group("golden")


def run(*arguments: str) -> str:
    """What a command prints on standard output; 10 where it found something."""
    found = CliRunner().invoke(group, arguments)
    assert found.exit_code in {0, 10}, found.output
    return found.stdout


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("golden")
    run("ingest", str(SAMPLES / "hubble"), "--store", str(folder / "store"))
    return str(folder / "store")


class Golden:
    """Compares with the files in tests/golden, or writes them."""

    def __init__(self, *, update: bool, here: Path) -> None:
        self.update, self.here = update, here

    def __call__(self, name: str, found: str) -> None:
        file = GOLDEN / name
        found = found.replace(f"{self.here}/", "").replace(f"{ROOT}/", "")
        if self.update:
            file.parent.mkdir(exist_ok=True)
            file.write_text(found)
        assert file.read_text() == found, f"{name}: see what changed, then `make golden`"


@pytest.fixture
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Golden:
    return Golden(update=request.config.getoption("--update-golden"), here=tmp_path)


@pytest.mark.parametrize("form", FORMS)
def test_the_samples_give_these_policies(
    store: str, golden: Golden, tmp_path: Path, form: str
) -> None:
    out = tmp_path / "policies"
    said = run("recommend", "--store", store, *INVENTORY, "--out", str(out), *FORMS[form])
    golden(f"{form}.txt", said)
    files = sorted(out.rglob("*.yaml"))
    golden(f"{form}.yaml", "".join(f"# {f.relative_to(out)}\n{f.read_text()}" for f in files))


def test_the_samples_give_this_diff(store: str, golden: Golden, tmp_path: Path) -> None:
    out = tmp_path / "policies"
    run("recommend", "--store", store, *INVENTORY, "--out", str(out))
    golden("diff.txt", run("diff", *INVENTORY, str(SAMPLES / "policies"), str(out)))


def test_the_samples_give_these_edges_and_patterns(store: str, golden: Golden) -> None:
    golden("edges.csv", run("edges", "--store", store, *INVENTORY, "-o", "csv"))
    golden("patterns.txt", run("patterns", "--store", store, *INVENTORY))
