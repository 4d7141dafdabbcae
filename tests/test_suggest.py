"""Proposals as branches and pull requests: real Git, a real Git server, APIs as they answer."""

import dataclasses
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from forge_server import TOKEN, ForgeServer, served

from recommender import forges
from recommender.cli import group
from recommender.dialects.writers import Form, writer
from recommender.forges import ForgeError, forge
from recommender.git import GitError, repository
from recommender.model import DIRECTIONS
from recommender.propose import Scope
from recommender.recommend import Recommendation, recommendation
from recommender.report import proposal
from recommender.report.keeping import kustomization, rewritten
from recommender.report.markdown import code, fitting
from recommender.suggest import Suggestion, suggest
from recommender.watch import watch

SAMPLES = Path(__file__).parents[1] / "data" / "samples"
INVENTORY = str(SAMPLES / "inventory.yaml")
WEB = "policies/shop/web.yaml"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("suggest") / "store"
    words = ["ingest", str(SAMPLES / "hubble"), "--store", str(path), "--workers", "1"]
    assert CliRunner().invoke(group, words).exit_code == 0
    return path


@pytest.fixture(scope="module")
def found(store: Path) -> Recommendation:
    watched = watch(store, [INVENTORY], in_force=True)
    scope = Scope(frozenset({"shop", "payments"}), frozenset(), DIRECTIONS)
    return recommendation(watched, scope, writer("kubernetes", Form()))


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org"]
    done = subprocess.run(
        ["git", *identity, *words], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    path = tmp_path / "repo"
    path.mkdir()
    git(path, "init", "-q", "-b", "main")
    (path / "README").write_text("Policies.\n")
    commit(path)
    return path


def commit(repo: Path) -> None:
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "by hand")


def suggested(repo: Path, found: Recommendation, **how: Any) -> Suggestion:
    known = repository(repo, os.environ)
    tip = known.found("refs/heads/flowpolicy/it")
    chosen = {"path": "policies", "branch": "flowpolicy/it", "base": "main", "old_tip": tip}
    return suggest(known, found, **{**chosen, **how})


def shown(repo: Path, path: str, branch: str = "flowpolicy/it") -> str:
    return git(repo, "show", f"{branch}:{path}")


def merge(repo: Path) -> None:
    git(repo, "merge", "-q", "flowpolicy/it")


def without(found: Recommendation, name: str) -> Recommendation:
    kept = [i for i, p in enumerate(found.proposals) if p.policy.ref.name != f"flowpolicy-{name}"]
    assert len(kept) == len(found.proposals) - 1
    return dataclasses.replace(
        found,
        proposals=tuple(found.proposals[i] for i in kept),
        manifests=tuple(found.manifests[i] for i in kept),
    )


def test_a_namespace_is_a_commit_and_the_working_tree_is_not_touched(
    repo: Path, found: Recommendation
) -> None:
    (repo / "README").write_text("Unsaved work.\n")
    made = suggested(repo, found)
    titles = git(repo, "log", "--format=%s", "main..flowpolicy/it").splitlines()
    assert len(titles) == len(made.commits) == 2
    assert titles[1].startswith("payments: add ")
    assert titles[0].startswith("shop: add ")
    assert yaml.safe_load(shown(repo, WEB))["kind"] == "NetworkPolicy"
    assert git(repo, "status", "--porcelain") == "M README"
    assert git(repo, "branch", "--show-current") == "main"
    assert git(repo, "worktree", "list").count("\n") == 0


def test_the_same_proposals_again_make_no_commit(repo: Path, found: Recommendation) -> None:
    first = suggested(repo, found)
    again = suggested(repo, found)
    assert again.tip == first.tip
    assert again.commits == ()
    merge(repo)
    settled = suggested(repo, found)
    assert settled.tip is None
    assert settled.commits == ()


def test_other_news_in_the_repository_do_not_make_the_branch_anew(
    repo: Path, found: Recommendation
) -> None:
    first = suggested(repo, found)
    (repo / "README").write_text("Other news.\n")
    commit(repo)
    assert suggested(repo, found).tip == first.tip


def test_only_what_changed_is_written_and_comments_of_people_stay(
    repo: Path, found: Recommendation
) -> None:
    suggested(repo, found)
    merge(repo)
    text = (repo / WEB).read_text()
    (repo / WEB).write_text(text.replace("spec:", "# Ask Ann before you touch it.\nspec:", 1))
    commit(repo)
    assert suggested(repo, found).tip is None
    at = [p.policy.ref.name for p in found.proposals].index("flowpolicy-web")
    body = json.loads(json.dumps(found.manifests[at][0]))
    body["spec"]["egress"][1]["ports"][0]["port"] = 8099
    other = list(found.manifests)
    other[at] = (body,)
    suggested(repo, dataclasses.replace(found, manifests=tuple(other)))
    changed = git(repo, "diff", "--name-only", "main", "flowpolicy/it").splitlines()
    assert changed == ["policies/shop/flowpolicy.lock", WEB]
    fresh = shown(repo, WEB)
    assert "# Ask Ann before you touch it.\nspec:" in fresh
    assert yaml.safe_load(fresh) == body
    assert [line for line in fresh.splitlines() if "told by" in line] == [
        line for line in text.splitlines() if "told by" in line
    ]


def test_what_people_changed_or_removed_stays_so_and_is_named(
    repo: Path, found: Recommendation
) -> None:
    suggested(repo, found)
    merge(repo)
    (repo / WEB).write_text((repo / WEB).read_text().replace("8080", "8081"))
    (repo / "policies/shop/cart.yaml").unlink()
    commit(repo)
    made = suggested(repo, found)
    assert made.tip is None
    assert made.by_hand == ("shop/cart.yaml removed by hand", "shop/web.yaml changed by hand")
    assert suggested(repo, found, overwrite=True).tip is not None
    assert "8081" not in shown(repo, WEB)


def test_a_file_that_was_there_before_is_nobodys_to_overwrite(
    repo: Path, found: Recommendation
) -> None:
    (repo / WEB).parent.mkdir(parents=True)
    (repo / WEB).write_text("kind: Other\nmetadata: {name: web}\n")
    commit(repo)
    made = suggested(repo, found)
    assert made.by_hand == ("shop/web.yaml changed by hand",)
    assert shown(repo, WEB).startswith("kind: Other")


def test_a_policy_that_is_proposed_no_more_is_removed(repo: Path, found: Recommendation) -> None:
    suggested(repo, found)
    merge(repo)
    suggested(repo, without(found, "web"))
    assert git(repo, "diff", "--name-status", "main", "flowpolicy/it", "--", WEB) == f"D\t{WEB}"


def test_a_kustomization_follows_and_keeps_its_comments(repo: Path, found: Recommendation) -> None:
    at = repo / "policies" / "kustomization.yaml"
    at.parent.mkdir()
    at.write_text("# ours\nkind: Kustomization\nresources:\n  - other.yaml  # Ann's\n")
    commit(repo)
    suggested(repo, found)
    text = shown(repo, "policies/kustomization.yaml")
    assert text.startswith("# ours\n")
    assert "- other.yaml  # Ann's" in text
    assert "shop/web.yaml" in yaml.safe_load(text)["resources"]
    merge(repo)
    suggested(repo, without(found, "web"))
    assert "shop/web.yaml" not in shown(repo, "policies/kustomization.yaml")


def test_a_kustomization_that_lists_it_all_keeps_its_bytes() -> None:
    text = "resources: [ ./a.yaml,   b.yaml ]"
    assert kustomization(text, {"a.yaml": True, "c.yaml": False}, Path("k")) == text
    with pytest.raises(Exception, match="are no list"):
        kustomization("resources: 1", {}, Path("k"))


def test_items_of_a_list_come_and_go_with_their_comments() -> None:
    head = "apiVersion: v1\nkind: K\nmetadata:\n  name: a\n"
    old = f"{head}spec:\n  - 1  # one\n  - 2  # two\n  - 3  # three\n"
    body = {"apiVersion": "v1", "kind": "K", "metadata": {"name": "a"}, "spec": [0, 1, 3]}
    text = rewritten(old, [body], "")
    assert yaml.safe_load(text) == body
    assert "- 1  # one" in text
    assert "- 3  # three" in text
    assert rewritten("a: [", [body], "plain") == "plain"


def test_evidence_in_a_file_is_that_of_the_new_rules_and_words_of_people_stay() -> None:
    head = "apiVersion: v1\nkind: K\nmetadata:\n  name: a\nspec:\n  ingress:\n"
    old = (
        f"{head}    # from shop/a; seen since the window began, told by the server\n    - a: 1\n"
        "    # Ann: keep\n    # from shop/b; first seen 2026-11-01\n    - b: 1\n"
    )
    plain = (
        f"{head}    # from shop/n; first seen 2026-11-09\n    - c: 1\n"
        "    # from shop/b; first seen 2026-11-02\n    - b: 1\n"
    )
    body = yaml.safe_load(plain)
    assert rewritten(old, [body], plain) == f"# Ann: keep\n{plain}"
    plain = plain.replace("c: 1", "a: 2")
    body = yaml.safe_load(plain)
    assert rewritten(old, [body], plain) == (
        f"{head}    # from shop/n; first seen 2026-11-09\n    - a: 2\n"
        "    # Ann: keep\n    # from shop/b; first seen 2026-11-02\n    - b: 1\n"
    )


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"branch": "main"}, "never go to a base or default branch"),
        ({"branch": "-x"}, "can be no branch's name"),
        ({"branch": "a..b"}, "can be no branch's name"),
        ({"base": "none"}, "no such revision: none"),
        ({"path": "../out"}, "no folder inside"),
        ({"path": "/etc"}, "no folder inside"),
        ({"path": ".git/hooks"}, "no folder inside"),
        ({"path": "link"}, "leads out of the repository"),
    ],
)
def test_branches_and_folders_that_are_not_for_proposals_are_refused(
    how: dict[str, str], words: str, repo: Path, found: Recommendation, tmp_path: Path
) -> None:
    (repo / "link").symlink_to(tmp_path)
    commit(repo)
    with pytest.raises(GitError, match=words):
        suggested(repo, found, **how)
    assert git(repo, "branch", "--format=%(refname:short)") == "main"


def test_commits_of_others_are_not_lost(repo: Path, found: Recommendation) -> None:
    suggested(repo, found)
    git(repo, "checkout", "-q", "flowpolicy/it")
    with pytest.raises(GitError, match="is checked out"):
        suggested(repo, found)
    (repo / "README").write_text("Ann was here.\n")
    commit(repo)
    git(repo, "checkout", "-q", "main")
    with pytest.raises(GitError, match="holds commits of others"):
        suggested(repo, found)


def test_a_folder_that_is_no_repository_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(GitError, match="git init"):
        repository(tmp_path, os.environ)
    with pytest.raises(GitError, match="no such folder"):
        repository(tmp_path / "none", os.environ)


# --- the text ----------------------------------------------------------------------------------


def test_the_text_tells_what_changes_what_waits_and_why(repo: Path, found: Recommendation) -> None:
    text = proposal.body(found, suggested(repo, found).diff, ["shop/web.yaml changed by hand"])
    for words in (
        "connections gained",
        "**Readiness:**",
        "#### Connections lost",
        "#### Waiting for a decision",
        "flowpolicy decide reject --file decisions.yaml --client",
        "Evidence of",
        "shop/web.yaml changed by hand",
    ):
        assert words in text
    assert len(text) < 60_000


def test_the_text_is_cut_below_what_a_forge_takes(repo: Path, found: Recommendation) -> None:
    diff = suggested(repo, found).diff
    edges = found.watched.edges
    watched = dataclasses.replace(
        found.watched,
        meaning=dataclasses.replace(
            found.watched.meaning,
            edges=edges.loc[edges.index.repeat(200)].assign(**{"class": "review"}),
        ),
    )
    many = dataclasses.replace(found, watched=watched)
    text = proposal.body(many, diff, ["x" * 250] * 5000)
    assert len(text) <= 60_000
    assert "more" in text
    assert len(proposal.body(many, diff, ["\x1b" * 2**20] * 5000)) <= 60_000


def test_the_text_copies_no_name_into_a_shell_that_kubernetes_would_not_take(
    repo: Path, found: Recommendation
) -> None:
    edges = found.watched.edges
    edges = edges.assign(**{"class": "review"}).iloc[:2].reset_index(drop=True)
    edges.loc[0, ["client_type", "client_namespace", "client_name"]] = [
        "workload",
        "shop",
        "x\n$(id)",
    ]
    meaning = dataclasses.replace(found.watched.meaning, edges=edges)
    watched = dataclasses.replace(found.watched, meaning=meaning)
    text = proposal.body(
        dataclasses.replace(found, watched=watched), suggested(repo, found).diff, []
    )
    assert "`shop/x\\n$(id)`" in text
    (command,) = [line for line in text.splitlines() if line.startswith("flowpolicy decide")]
    assert "$(id)" not in command


def test_a_text_is_cut_after_a_line_and_says_so() -> None:
    assert fitting("x\n" * 30_000) == "x\n" * 30_000
    cut = fitting("x\n" * 30_001)
    assert len(cut) <= 60_000
    assert cut.endswith("x\n\nCut here: it is too long.\n")


@pytest.mark.parametrize(
    "name",
    ["`x`", "a|b", "<script>", "a\n# b", "```\nrm -rf /", "\x1b[2J", "'; rm -rf / #", "$(id)"],
)
def test_names_from_a_log_stay_inside_their_code_span(name: str) -> None:
    text = code(name)
    assert text.startswith("`")
    assert text.endswith("`")
    assert not set("`|\n\x1b") & set(text[1:-1])


# --- the command and the forges ----------------------------------------------------------------

KINDS = ("github", "gitlab", "gitea")


@pytest.fixture(params=KINDS)
def hosted(
    request: Any, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ForgeServer]:
    monkeypatch.setattr(forges, "_TRIES", 2)
    monkeypatch.setenv("FLOWPOLICY_TOKEN", TOKEN)
    with served(request.param, tmp_path / "served") as forge:
        git(repo, "push", "-q", str(forge.folder / "team/policies.git"), "main")
        git(repo, "remote", "add", "origin", forge.remote)
        yield forge


def run(forge: ForgeServer, repo: Path, store: Path, *more: str) -> Result:
    words = ["suggest", "--repo", str(repo), "--store", str(store), "--inventory", INVENTORY]
    words += ["--namespace", "payments", "--branch", "flowpolicy/it"]
    words += ["--open", forge.kind, "--api", forge.api, *more]
    result = CliRunner().invoke(group, words)
    assert TOKEN not in result.output
    assert TOKEN not in repr(result.exception)
    return result


def test_a_pull_request_is_opened_updated_and_left_closed(
    hosted: ForgeServer, repo: Path, store: Path
) -> None:
    first = run(hosted, repo, store)
    assert first.exit_code == 0, first.output
    (opened,) = hosted.requests
    assert opened["title"] == "Network policies from flow logs"
    assert "Waiting for a decision" in (opened.get("body") or opened["description"])
    assert (opened.get("base") or opened["target_branch"]) == "main"
    pushed = hosted.git("rev-parse", "flowpolicy/it")

    opened |= {"body": "", "description": ""}
    assert run(hosted, repo, store).exit_code == 0
    assert len(hosted.requests) == 1
    assert opened["body"] or opened["description"]
    assert hosted.git("rev-parse", "flowpolicy/it") == pushed

    opened["state"] = "closed"
    hosted.git("update-ref", "-d", "refs/heads/flowpolicy/it")
    result = run(hosted, repo, store)
    assert "was closed by somebody" in result.output
    assert opened["state"] == "closed"
    assert hosted.git("branch", "--list", "flowpolicy/it") == ""

    assert run(hosted, repo, store, "--reopen").exit_code == 0
    assert opened["state"] == "open"
    assert hosted.git("branch", "--list", "flowpolicy/it") != ""
    assert len(hosted.requests) == 1


@pytest.mark.parametrize("hosted", ["github"], indirect=True)
def test_a_request_that_was_merged_gets_a_successor(
    hosted: ForgeServer, repo: Path, store: Path
) -> None:
    assert run(hosted, repo, store).exit_code == 0
    hosted.requests[0] |= {"merged": True, "state": "closed"}
    assert run(hosted, repo, store).exit_code == 0
    assert [row["state"] for row in hosted.requests] == ["closed", "open"]


def test_a_protected_or_default_branch_is_never_pushed_to(hosted: ForgeServer, repo: Path) -> None:
    project = forge(hosted.kind, hosted.remote, TOKEN, hosted.api)  # type: ignore[arg-type]
    hosted.protected.add("flowpolicy/it")
    with pytest.raises(ForgeError, match="flowpolicy/it is protected"):
        project.check_branch("flowpolicy/it")
    with pytest.raises(ForgeError, match="default branch"):
        project.check_branch("main")
    project.check_branch("flowpolicy/other")


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        (401, {}, "the token is not known"),
        (403, {}, "give it write access"),
        (404, {}, "no such project for this token"),
        (429, {"Retry-After": "0"}, "too many requests"),
        (
            403,
            {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "99999999999"},
            "too many requests",
        ),
        (302, {"Location": "http://127.0.0.1:1/"}, "answered 302"),
        (500, {}, "answered 500: it broke"),
    ],
)
@pytest.mark.parametrize("hosted", ["github"], indirect=True)
def test_a_refusal_is_one_sentence_and_nothing_is_pushed(
    status: int, headers: dict[str, str], words: str, hosted: ForgeServer
) -> None:
    hosted.trouble = lambda _method, _path: (status, headers, {"message": "it\nbroke"})
    project = forge("github", hosted.remote, TOKEN, hosted.api)
    with pytest.raises(ForgeError, match=words) as caught:
        project.check_branch("flowpolicy/it")
    assert "\n" not in str(caught.value)
    assert TOKEN not in str(caught.value) + repr(project)


@pytest.mark.parametrize("hosted", ["gitlab"], indirect=True)
def test_a_limit_that_ends_soon_is_waited_for(hosted: ForgeServer) -> None:
    answers = iter([(429, {"Retry-After": "0"}, {})])
    hosted.trouble = lambda _method, _path: next(answers, None)
    forge("gitlab", hosted.remote, TOKEN, hosted.api).check_branch("flowpolicy/it")
    assert len(hosted.asked) == 3


@pytest.mark.parametrize("hosted", ["github"], indirect=True)
def test_a_wrong_token_ends_before_anything_is_written(
    hosted: ForgeServer, repo: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWPOLICY_TOKEN", "t0ken-of-old")
    result = run(hosted, repo, store)
    assert result.exit_code == 1
    assert "t0ken-of-old" not in result.output
    monkeypatch.delenv("FLOWPOLICY_TOKEN")
    assert "set FLOWPOLICY_TOKEN or GITHUB_TOKEN" in run(hosted, repo, store).output


@pytest.mark.parametrize(
    ("kind", "remote", "api", "project"),
    [
        ("github", "git@github.com:team/p.git", "https://api.github.com", "team/p"),
        ("github", "https://ghe.example/team/p", "https://ghe.example/api/v3", "team/p"),
        ("gitlab", "ssh://git@gl.example:22/a/b/p.git", "https://gl.example/api/v4", "a/b/p"),
        ("gitea", "https://x:y@tea.example/team/p.git", "https://tea.example/api/v1", "team/p"),
    ],
)
def test_the_api_is_that_of_the_remotes_host(
    kind: Any, remote: str, api: str, project: str
) -> None:
    found = forge(kind, remote, TOKEN)
    assert (found.api, found.project) == (api, project)


def test_a_token_never_goes_over_plain_http(repo: Path) -> None:
    with pytest.raises(ForgeError, match="not https"):
        forge("github", "https://h/a/b", TOKEN, "http://h.example/api")
    with pytest.raises(GitError, match="not https"):
        repository(repo, {}).with_token("http://h.example/a/b", "u", TOKEN)
