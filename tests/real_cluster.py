"""A Kubernetes API server with its etcd, as processes on loopback: `make cluster` builds both."""

import base64
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

ROOT = Path(__file__).parents[1]
BINARIES = Path(os.environ.get("FLOWPOLICY_CLUSTER", ROOT / ".cluster"))
IS_BUILT = all((BINARIES / name).is_file() for name in ("etcd", "kube-apiserver"))
_ADMIN = "admin-token"
_START_SECONDS = 180


def _port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@dataclass
class RealCluster:
    """The running servers; `ask` speaks to the API as its administrator."""

    folder: Path
    port: int
    etcd_port: int
    etcd: subprocess.Popen[bytes] | None = None
    apiserver: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def ask(
        self, method: str, path: str, body: Any = None, *, token: str = _ADMIN, kind: str = "json"
    ) -> tuple[int, dict[str, Any]]:
        """Status and body of one request."""
        request = urllib.request.Request(
            f"{self.url}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": f"application/{kind}"},
        )
        try:
            with self._opener().open(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"{}")

    def _opener(self) -> urllib.request.OpenerDirector:
        context = ssl.create_default_context(cafile=str(self.authority))
        return urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )

    @property
    def authority(self) -> Path:
        """The certificate that the server made for itself."""
        return self.folder / "certificates" / "apiserver.crt"

    def kubeconfig(self, name: str = "admin", token: str = _ADMIN) -> Path:
        """A kubeconfig of whoever has the token."""
        path = self.folder / f"{name}.kubeconfig"
        authority = base64.b64encode(self.authority.read_bytes()).decode()
        server = {"server": self.url, "certificate-authority-data": authority}
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "c", "cluster": server}],
                    "users": [{"name": "u", "user": {"token": token}}],
                    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                    "current-context": "c",
                }
            )
        )
        return path

    def kubectl(self, *words: str | Path, name: str = "admin") -> subprocess.CompletedProcess[str]:
        """The real kubectl, on this cluster."""
        tool = shutil.which("kubectl", path=f"{BINARIES}:{os.environ['PATH']}")
        assert tool, "kubectl is not installed"
        config = str(self.folder / f"{name}.kubeconfig")
        plugins = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return subprocess.run(
            [tool, *map(str, words)],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env={**os.environ, "PATH": plugins, "KUBECONFIG": config},
        )

    def token(self, namespace: str, account: str) -> str:
        """A token of a ServiceAccount, as a pod gets it."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        status, answer = self.ask("POST", path, body)
        assert status == 201, answer
        token: str = answer["status"]["token"]
        return token

    def start_etcd(self) -> None:
        peer = f"http://127.0.0.1:{_port()}"
        own = f"http://127.0.0.1:{self.etcd_port}"
        self.etcd = self._started(
            "etcd",
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={own}",
            f"--advertise-client-urls={own}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
        )

    def start_apiserver(self) -> None:
        keys = self.folder / "service-accounts.key"
        self.apiserver = self._started(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self.etcd_port}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.port}",
            f"--cert-dir={self.folder / 'certificates'}",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--anonymous-auth=false",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={keys}",
            f"--service-account-signing-key-file={keys}",
            "--service-cluster-ip-range=10.96.0.0/16",
            # Nothing runs here that would make each namespace's default account.
            "--disable-admission-plugins=ServiceAccount",
            "--enable-priority-and-fairness=false",
        )

    def wait(self) -> None:
        """Until the API server says that it is ready."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self.apiserver is not None and self.apiserver.poll() is not None:
                break
            try:
                request = urllib.request.Request(f"{self.url}/readyz")
                request.add_header("Authorization", f"Bearer {_ADMIN}")
                with self._opener().open(request, timeout=5):
                    return
            except (OSError, urllib.error.URLError):
                time.sleep(0.2)
        log = (self.folder / "kube-apiserver.log").read_text()
        raise AssertionError(f"kube-apiserver does not start:\n{log[-4000:]}")

    def kill_apiserver(self) -> None:
        assert self.apiserver is not None
        self.apiserver.send_signal(signal.SIGKILL)
        self.apiserver.wait()

    def compact(self) -> int:
        """Let etcd forget all earlier revisions, as it does every five minutes; the last one."""
        last = int(self._etcd("kv/range", {"key": "AA=="})["header"]["revision"])
        self._etcd("kv/compaction", {"revision": str(last), "physical": True})
        return last

    def _etcd(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.etcd_port}/v3/{path}", data=json.dumps(body).encode()
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def stop(self) -> None:
        for process in (self.apiserver, self.etcd):
            if process is not None:
                process.kill()
                process.wait()

    def _started(self, name: str, *options: str) -> subprocess.Popen[bytes]:
        log: IO[bytes]
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen([BINARIES / name, *options], stdout=log, stderr=log)


@contextmanager
def running(folder: Path) -> Iterator[RealCluster]:
    """A cluster without nodes or controllers, gone after the block."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (folder / "service-accounts.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    (folder / "tokens.csv").write_text(f"{_ADMIN},admin,1,system:masters\n")
    cluster = RealCluster(folder, _port(), _port())
    try:
        cluster.start_etcd()
        cluster.start_apiserver()
        cluster.wait()
        cluster.kubeconfig()
        yield cluster
    finally:
        cluster.stop()
