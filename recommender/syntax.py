"""What Kubernetes takes for label keys and values: apimachinery/pkg/util/validation."""

from __future__ import annotations

import re

_LABEL = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_DNS = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"
_KEY = re.compile(rf"({_DNS}/)?{_LABEL}")
_VALUE = re.compile(rf"({_LABEL})?")


def is_label_key(text: str) -> bool:
    """IsQualifiedName."""
    return _KEY.fullmatch(text) is not None


def is_label_value(text: str) -> bool:
    """IsValidLabelValue."""
    return _VALUE.fullmatch(text) is not None
