"""Trouble with a user's manifests; each message is one sentence that says what to do."""

from ingest.errors import FlowpolicyError


class InventoryError(FlowpolicyError):
    """An inventory is missing, unreadable, or holds nothing that can be used."""


class PolicyError(FlowpolicyError):
    """A policy that the API server would refuse; `place` in the message."""


class QuestionError(FlowpolicyError):
    """A question about a connection that has no meaning."""
