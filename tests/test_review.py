"""A person's change of policies judged, and what has drifted since the last proposal."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result
from forge_server import TOKEN, served

from recommender.cli import group
from recommender.report import changes

SCHEMA = json.loads(Path(changes.__file__).with_name("diff.schema.json").read_text())
SAMPLES = Path(__file__).parents[1] / "data" / "samples"
INVENTORY = ["--inventory", str(SAMPLES / "inventory.yaml")]
WEB = Path("policies/shop/web.yaml")
LOCK = Path("policies/shop/flowpolicy.lock")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("review") / "store"
    words = ["ingest", str(SAMPLES / "hubble"), "--store", str(path), "--workers", "1"]
    assert CliRunner().invoke(group, words).exit_code == 0
    return path


@pytest.fixture(scope="module")
def proposed(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository in which the proposals for one namespace were merged."""
    repo = tmp_path_factory.mktemp("proposed") / "repo"
    repo.mkdir()
    git(repo, "init", "-q", "-b", "main")
    git(repo, "commit", "-q", "--allow-empty", "-m", "begin")
    words = ["suggest", "--repo", str(repo), "--store", str(store), *INVENTORY]
    result = CliRunner().invoke(group, [*words, "--namespace", "shop", "--branch", "p"])
    assert result.exit_code == 0, result.output
    git(repo, "merge", "-q", "p")
    return repo


@pytest.fixture
def repo(proposed: Path, tmp_path: Path) -> Path:
    path = tmp_path / "repo"
    subprocess.run(["git", "clone", "-q", str(proposed), str(path)], check=True)
    git(path, "checkout", "-q", "-b", "change")
    return path


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org"]
    done = subprocess.run(
        ["git", *identity, *words], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def commit(repo: Path) -> None:
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "by hand")


def review(repo: Path, store: Path, *more: str) -> Result:
    words = ["review", "--repo", str(repo), "--base", "origin/main", "--store", str(store)]
    return CliRunner().invoke(group, [*words, *INVENTORY, *more])


def deny_all(repo: Path) -> None:
    body = (repo / WEB).read_text()
    head = body[: body.index("  ingress:")] if "  ingress:" in body else body
    (repo / WEB).write_text(head)
    commit(repo)


def test_a_change_that_would_deny_wanted_traffic_exits_11_and_says_where(
    repo: Path, store: Path, tmp_path: Path
) -> None:
    deny_all(repo)
    result = review(repo, store, "--sarif", str(tmp_path / "r.sarif"), "-o", "json")
    assert result.exit_code == 11, result.output
    found = json.loads(result.stdout)
    assert found["denied"]
    assert all("shop/web" in line for line in found["denied"])
    (run,) = json.loads((tmp_path / "r.sarif").read_text())["runs"]
    errors = [one for one in run["results"] if one["level"] == "error"]
    assert len(errors) == len(found["denied"])
    places = {one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for one in errors}
    assert str(WEB) in places
    assert "worktree" not in git(repo, "worktree", "list")
    assert git(repo, "status", "--porcelain") == ""


def test_a_change_that_denies_nothing_wanted_exits_0(repo: Path, store: Path) -> None:
    (repo / "README").write_text("more words\n")
    commit(repo)
    result = review(repo, store, "-o", "markdown")
    assert result.exit_code == 0, result.output
    assert "No wanted traffic would be denied." in result.stdout


def test_icmp_that_only_the_new_set_can_judge_is_denied_by_it_alone(
    repo: Path, store: Path
) -> None:
    meta = "metadata: {name: cart, namespace: shop}"
    spec = "spec: {endpointSelector: {matchLabels: {app: cart}}, egress: [{toEntities: [none]}]}"
    (repo / "policies/shop/theirs.yaml").write_text(
        f"{{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, {meta}, {spec}}}\n"
    )
    commit(repo)
    result = review(repo, store, "-o", "json")
    assert result.exit_code == 11, result.output
    found = json.loads(result.stdout)
    assert [line for line in found["denied"] if "ICMP" in line]
    jsonschema.validate({k: v for k, v in found.items() if k != "denied"}, SCHEMA)


def test_what_the_base_did_meanwhile_is_not_this_change(
    repo: Path, store: Path, proposed: Path
) -> None:
    git(repo, "checkout", "-q", "-b", "elsewhere", "origin/main")
    deny_all(repo)
    git(repo, "update-ref", "refs/remotes/origin/main", "elsewhere")
    git(repo, "checkout", "-q", "change")
    assert review(repo, store).exit_code == 0


def test_a_base_that_is_not_there_says_to_fetch_it(repo: Path, store: Path) -> None:
    result = review(repo, store, "--base", "gone")
    assert result.exit_code == 1
    assert "no such revision: gone; fetch it" in result.output


def test_the_answer_is_one_comment_that_is_written_anew(
    repo: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWPOLICY_TOKEN", TOKEN)
    mark = "<!-- flowpolicy review -->"
    for kind in ("github", "gitlab", "gitea"):
        with served(kind, tmp_path / kind) as forge:
            said = [f"> {mark} is quoted here", *("one more" for _ in range(120))]
            forge.comments += [{"id": at, "body": body} for at, body in enumerate(said, 1)]
            git(repo, "remote", "set-url", "origin", forge.remote)
            more = ["--open", kind, "--api", forge.api, "--number", "1"]
            for _ in range(2):
                assert review(repo, store, *more).exit_code == 0
            *others, own = (comment["body"] for comment in forge.comments)
            assert others == said
            assert own.startswith(mark)
    assert review(repo, store, "--open", "github").exit_code == 2


def test_sarif_has_the_shape_that_code_scanning_asks_for(
    repo: Path, store: Path, tmp_path: Path
) -> None:
    deny_all(repo)
    review(repo, store, "--sarif", str(tmp_path / "r.sarif"))
    body: Any = json.loads((tmp_path / "r.sarif").read_text())
    result = {
        "type": "object",
        "required": ["ruleId", "level", "message", "locations", "partialFingerprints"],
        "properties": {"level": {"enum": ["error", "warning", "note"]}},
    }
    run = {
        "required": ["tool", "results"],
        "properties": {"results": {"type": "array", "items": result}},
    }
    shape = {
        "required": ["version", "runs"],
        "properties": {"version": {"const": "2.1.0"}, "runs": {"type": "array", "items": run}},
    }
    jsonschema.validate(body, shape)
    rules = {rule["id"] for rule in body["runs"][0]["tool"]["driver"]["rules"]}
    assert {one["ruleId"] for one in body["runs"][0]["results"]} <= rules


# --- drift -------------------------------------------------------------------------------------


def drift(repo: Path, store: Path, *more: str) -> Result:
    words = ["drift", str(repo / "policies"), "--store", str(store), *INVENTORY]
    return CliRunner().invoke(group, [*words, *more])


def test_nothing_has_drifted_right_after_a_proposal(repo: Path, store: Path) -> None:
    result = drift(repo, store, "-o", "json", "--unused-days", "365")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"new_edges": [], "unused_rules": [], "by_hand": []}


def test_new_edges_unused_rules_and_changes_by_hand_are_drift(repo: Path, store: Path) -> None:
    lock = json.loads((repo / LOCK).read_text())
    gone = lock["edges"].pop()
    (repo / LOCK).write_text(json.dumps(lock))
    text = (repo / WEB).read_text()
    more = "  ingress:\n  - from:\n    - ipBlock:\n        cidr: 192.0.2.77/32\n"
    (repo / WEB).write_text(text.replace("  ingress:\n", more, 1))
    (repo / "policies/shop/cart.yaml").unlink()
    result = drift(repo, store, "-o", "json")
    assert result.exit_code == 10
    found = json.loads(result.stdout)
    assert [list(edge.values()) for edge in found["new_edges"]] == [gone]
    assert any(
        "NetworkPolicy shop/flowpolicy-web ingress rule" in rule for rule in found["unused_rules"]
    )
    assert found["by_hand"] == ["shop/cart.yaml removed by hand", "shop/web.yaml changed by hand"]
    assert drift(repo, store, "-o", "markdown").stdout.startswith(
        "#### edges that the last proposal"
    )


def test_a_folder_without_a_lock_is_said_to_tell_less(
    repo: Path, store: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty" / "policies").mkdir(parents=True)
    result = drift(tmp_path / "empty", store)
    assert "no namespace here has a flowpolicy.lock" in result.stderr


def test_rules_are_unused_when_the_last_days_did_not_use_them(repo: Path, store: Path) -> None:
    few, many = (
        len(json.loads(drift(repo, store, "-o", "json", "--unused-days", n).stdout)["unused_rules"])
        for n in ("1", "365")
    )
    assert few >= many == 0


def test_the_environment_is_given_to_git_whole(repo: Path) -> None:
    from recommender.git import repository

    assert repository(repo, {**os.environ, "GIT_DIR": "/nowhere"}).found("HEAD")
