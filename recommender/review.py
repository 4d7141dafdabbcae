"""A change of policies in a repository, judged: connections, observed traffic, findings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from recommender.diff import Diff, diff
from recommender.evaluate import evaluator
from recommender.frames import of_class
from recommender.git import Git, GitError, checked_out
from recommender.manifests import Texts
from recommender.model import Remark
from recommender.policies import PolicySet, read_policies
from recommender.replay import Replayed, replay
from recommender.suggest import inside
from recommender.watch import Watched


@dataclass(frozen=True)
class Review:
    """`denied` are wanted edges that the new set denies and the old one did not."""

    diff: Diff
    new: PolicySet
    denied: tuple[Replayed, ...]

    @property
    def new_remarks(self) -> list[Remark]:
        """What is to look at in the new set, and was not in the old one."""
        old = {(str(one.ref), one.topic, one.message) for one in self.diff.old_remarks}
        return [
            one
            for one in self.diff.new_remarks
            if (str(one.ref), one.topic, one.message) not in old
        ]


def review(git: Git, base: str, path: str, watched: Watched) -> Review:
    """Judge a folder of a working tree against what it was where its branch left the base.

    Raises:
        GitError: there is no such base, or it has nothing in common with HEAD.
        PolicyError: the folder holds nothing but broken documents.
    """
    if git.found(base) is None:
        raise GitError(f"{git.folder}: no such revision: {base}; fetch it, or mend --base")
    start = git.run("merge-base", base, "HEAD", allowed=(0, 1))
    if not start:
        raise GitError(
            f"{git.folder}: {base} and HEAD have no commit in common; fetch more of the history"
        )
    folder = inside(path)
    read: Texts = {}  # most files are the same in both
    new = _policies(git.folder / folder, watched, read)
    with checked_out(git, start) as before:
        old = _policies(before.folder / folder, watched, read)
        changed = diff(old, new, watched.inventory, watched.edges, told=watched.known)
    wanted = of_class(watched.edges, "wanted")
    was, now = (
        {
            id(one.row): one
            for one in replay(
                evaluator(
                    each.policies,
                    watched.inventory,
                    told=watched.known,
                    host_network="as nodes",
                ),
                wanted,
            )
        }
        for each in (old, new)
    )
    denied = (
        after
        for row, after in now.items()
        # One set may judge what the other cannot (ICMP, of which NetworkPolicies say nothing).
        if after.verdict.allow is False and not (row in was and was[row].verdict.allow is False)
    )
    return Review(changed, new, tuple(denied))


def _policies(folder: Path, watched: Watched, read: Texts) -> PolicySet:
    if not folder.is_dir():
        return PolicySet([], [])
    return read_policies([folder], watched.inventory, may_be_empty=True, read=read)
