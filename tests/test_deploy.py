"""deploy/ renders, asks for no more than it needs, and says what the commands understand."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from recommender import cluster
from recommender.cli import group
from recommender.commands import steps

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "flowpolicy"
OVERLAYS = ["base", *sorted(f"overlays/{path.name}" for path in (DEPLOY / "overlays").iterdir())]
BUILT = ROOT / ".cluster"
KUBECTL = shutil.which("kubectl", path=f"{BUILT}:{os.environ.get('PATH', '')}")
HELM = shutil.which("helm", path=f"{BUILT}:{os.environ.get('PATH', '')}")
FOLLOWED = ["", "hubble-files", "hubble-relay", "goldmane"]


def kustomized(name: str) -> list[dict[str, Any]]:
    if KUBECTL is None:
        pytest.skip("no kubectl here to render Kustomize folders: `make cluster` builds one")
    words = [KUBECTL, "kustomize", str(DEPLOY / name)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return list(yaml.safe_load_all(done.stdout))


def charted(follow: str) -> list[dict[str, Any]]:
    if HELM is None:
        pytest.skip("no helm here to render the chart: `make cluster` builds one")
    words = [HELM, "template", "flowpolicy", str(CHART), "--namespace", "flowpolicy"]
    done = subprocess.run(
        [*words, "--set", f"follow={follow}"], capture_output=True, text=True, check=True
    )
    return [body for body in yaml.safe_load_all(done.stdout) if body]


def templates(bodies: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for body in bodies:
        if body["kind"] == "CronJob":
            yield body["spec"]["jobTemplate"]["spec"]["template"]
        elif body["kind"] in ("Deployment", "DaemonSet"):
            yield body["spec"]["template"]


def check(bodies: list[dict[str, Any]], *, reads_nodes: bool) -> None:
    """What holds of every rendering."""
    kinds = [body["kind"] for body in bodies]
    assert {"ServiceAccount", "ClusterRole", "CronJob", "NetworkPolicy"} <= set(kinds)
    assert "Secret" not in kinds
    for template in templates(bodies):
        spec = template["spec"]
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = spec["containers"]
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] is True
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        of_node = any("hostPath" in volume for volume in spec["volumes"])
        assert of_node <= reads_nodes
        assert of_node or spec["securityContext"]["runAsNonRoot"] is True
        assert container["resources"]["limits"]["memory"]
        understood(container)
    (role,) = (body for body in bodies if body["kind"] == "ClusterRole")
    assert role["rules"] == yaml_of("base/rbac.yaml", "ClusterRole")["rules"]
    (config,) = (body for body in bodies if body["kind"] == "ConfigMap")
    steps.checked(yaml.safe_load(config["data"]["flowpolicy.yaml"]), Path("flowpolicy.yaml"))


def understood(container: dict[str, Any]) -> None:
    """The container's words are a command that there is, with options that it has."""
    words = container["args"]
    if container.get("command") == ["sh", "-c"]:
        words = words[0].partition("exec flowpolicy ")[2].replace('"', "").split()
    command = group.get_command(click.Context(group), words[0])
    assert command is not None
    command.make_context(words[0], list(words[1:]))


def yaml_of(path: str, kind: str) -> dict[str, Any]:
    bodies = yaml.safe_load_all((DEPLOY / path).read_text())
    found: dict[str, Any] = next(body for body in bodies if body["kind"] == kind)
    return found


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_kustomize_folder_renders(name: str) -> None:
    check(kustomized(name), reads_nodes=name.endswith("hubble-files"))


@pytest.mark.parametrize("follow", FOLLOWED)
def test_the_chart_renders_the_same(follow: str) -> None:
    check(charted(follow), reads_nodes=follow == "hubble-files")


def test_a_chart_that_is_to_follow_what_there_is_not_says_so() -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        charted("other")
    assert "follow is none of" in caught.value.stderr


def test_the_job_may_do_what_a_snapshot_asks_and_no_more() -> None:
    rules = yaml_of("base/rbac.yaml", "ClusterRole")["rules"]
    assert {verb for rule in rules for verb in rule["verbs"]} == {"get", "list"}
    granted = {
        (group_, name)
        for rule in rules
        for group_ in rule["apiGroups"]
        for name in rule["resources"]
        if not name.startswith("tier.")
    }
    assert granted == {
        (version.rpartition("/")[0], cluster.plural(kind)) for version, kind in cluster.asked()
    }


def test_the_namespace_is_restricted_but_where_files_of_nodes_are_read() -> None:
    key = "pod-security.kubernetes.io/enforce"
    for name in OVERLAYS:
        (space,) = (body for body in kustomized(name) if body["kind"] == "Namespace")
        level = "privileged" if name.endswith("hubble-files") else "restricted"
        assert space["metadata"]["labels"][key] == level


def test_the_action_reads_its_inputs_as_values_never_as_shell() -> None:
    body = yaml.safe_load((ROOT / "action.yml").read_text())
    scripts = [step["run"] for step in body["runs"]["steps"] if "run" in step]
    assert scripts
    assert not any("${{" in script for script in scripts)
    for script in scripts:
        subprocess.run(["bash", "-n", "-c", script], check=True)
    options = {option for name in ("suggest", "review") for option in options_of(name)}
    assert set(re.findall(r"--(?=[a-z])[a-z-]+", scripts[-1])) <= options


def test_the_gitlab_template_uses_options_that_there_are() -> None:
    body = yaml.safe_load((DEPLOY / "gitlab-ci.yml").read_text())
    for job in (".flowpolicy-suggest", ".flowpolicy-review"):
        (line,) = body[job]["script"]
        assert set(re.findall(r"--[a-z-]+", line)) <= options_of(line.split()[1])


def options_of(name: str) -> set[str]:
    command = group.get_command(click.Context(group), name)
    assert command is not None
    return {option for parameter in command.params for option in parameter.opts}


def test_the_steps_of_the_image_install_a_command_that_runs(tmp_path: Path) -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    stage = text.partition("FROM python")[2].partition("\nFROM")[0]
    for line in re.findall(r"^COPY (.*)$", stage, re.MULTILINE):
        *sources, target = line.split()
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, tmp_path / target)
            else:
                shutil.copy(ROOT / source, tmp_path / target)
    (script,) = re.findall(r"^RUN (python .*(?:\n +&& .*)*)", stage, re.MULTILINE)
    script = script.replace("\\\n", " ").replace("/opt/flowpolicy", str(tmp_path / "opt"))
    script = re.sub(r"^python", sys.executable, script)
    done = subprocess.run(
        ["sh", "-ec", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for words in (["--version"], ["run", "--schema"]):
        found = subprocess.run(
            [tmp_path / "opt" / "bin" / "flowpolicy", *words],
            cwd="/",
            capture_output=True,
            text=True,
            check=True,
        )
        assert found.stdout
    assert json.loads(found.stdout) == steps.schema()
