"""What names a live source, and Security: how it is trusted, and what the client shows it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

LIVE_SCHEMES = ("hubble-relay://", "goldmane://")


@dataclass(frozen=True)
class Security:
    """How the server is to be trusted and what the client shows it.

    Args:
        is_plaintext: no TLS at all.
        ca: certificates to trust, in PEM; None trusts those that gRPC comes with.
        certificate, key: the client's own, in PEM; both or none.
        server_name: the name on the server's certificate, where the address has another.
    """

    is_plaintext: bool = False
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = None
