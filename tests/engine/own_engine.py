"""A Docker engine of a test's own, which it may stop and kill: the machine's engine belongs to others too."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.common.host.faults.conftest import descendants, role

ANSWERS_WITHIN_S = 90
STOPS_WITHIN_S = 90


def why_not() -> str:
    """Why a test cannot have an engine of its own here, "" where it can."""
    if os.geteuid() != 0:
        return "only root can start an engine of its own"
    if not shutil.which("unshare"):
        return "unshare is not on this machine"
    if not shutil.which("dockerd"):
        return "dockerd is not on this machine (its engine is elsewhere)"
    return ""


class DoesNotStart(Exception):
    """What dockerd said last."""


class OwnEngine:
    """dockerd with folders, socket and containerd of its own; no network, so that it changes nothing outside of its folder."""

    def __init__(self) -> None:
        # A short path: sockets lie in it.
        self.folder = Path(tempfile.mkdtemp(prefix="fw-engine-"))
        self.folder.chmod(0o755)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        return {"DOCKER_HOST": f"unix://{self.folder}/docker.sock"}

    def start(self) -> None:
        """Returns when it answers. Raises DoesNotStart."""
        name = self.folder.name
        command = [
            # A network of its own: with `--bridge none` dockerd removes the bridge docker0, which is the machine's engine's.
            "unshare", "--net", "dockerd", "--data-root", f"{self.folder}/data", "--exec-root", f"{self.folder}/exec",
            "--host", f"unix://{self.folder}/docker.sock", "--pidfile", f"{self.folder}/docker.pid",
            "--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false",
            # A containerd of the system, where there is one, keeps its own containers apart.
            "--containerd-namespace", name, "--containerd-plugins-namespace", f"{name}-plugins",
        ]  # fmt: skip
        # After a kill these name processes that are gone, or that nobody has buried: dockerd would wait for them.
        for pid_file in (self.folder / "docker.pid", self.folder / "exec" / "containerd" / "containerd.pid"):
            pid_file.unlink(missing_ok=True)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        deadline = time.monotonic() + ANSWERS_WITHIN_S
        while self._docker("info").returncode:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise DoesNotStart((self.folder / "log").read_text(errors="replace").strip()[-3000:])
            time.sleep(0.1)

    def kill(self) -> None:
        """As a crash or the out-of-memory killer ends it: containers live on, and nobody is told anything."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """As `systemctl stop docker` ends it: it stops its containers first."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(timeout=STOPS_WITHIN_S)

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def processes(self) -> dict[str, list[int]]:
        """Role -> processes in its containers: worker, supervisor, sidecar, and `container` for their first ones."""
        found: dict[str, list[int]] = {}
        for shim in self._shims():
            for pid, command in descendants(shim).items():
                name = "container" if "docker-init" in command.split(" ")[0] else role(command)
                if name:
                    found.setdefault(name, []).append(pid)
        return found

    def load(self, tags: Iterable[str], environment: dict[str, str]) -> None:
        """Images of another engine (of that environment), under the same names."""
        with subprocess.Popen(["docker", "save", *tags], stdout=subprocess.PIPE, env=environment) as saved:
            loaded = self._docker("load", stdin=saved.stdout)
        assert saved.returncode == 0 and loaded.returncode == 0, loaded.stderr

    def containers(self) -> list[str]:
        return self._docker("ps", "--all", "--format", "{{.Names}} {{.Status}}").stdout.decode().splitlines()

    def close(self) -> None:
        """Ends it and everything in it, and removes its folder."""
        try:
            if not self.runs:
                self.start()  # what a kill has left alive is ended by its own engine
            names = [line.split(" ")[0] for line in self.containers()]
            if names:
                self._docker("rm", "--force", *names)
            self.stop()
        except (DoesNotStart, subprocess.TimeoutExpired):
            pass  # then without it
        finally:
            if self.runs:
                self.kill()
            for pid in [
                child for shim in self._shims() for child in (*descendants(shim), shim)
            ] + self._of_this_folder():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            mounts = [line.split(" ")[1] for line in Path("/proc/mounts").read_text().splitlines()]
            for mount in reversed([mount for mount in mounts if mount.startswith(f"{self.folder}/")]):
                subprocess.run(["umount", "-l", mount], capture_output=True)
            shutil.rmtree(self.folder, ignore_errors=True)

    def _docker(self, *arguments: str, **options: object) -> subprocess.CompletedProcess[bytes]:
        command = ["docker", *arguments]
        return subprocess.run(command, env={**os.environ, **self.environment}, capture_output=True, **options)  # type: ignore[call-overload]

    def _shims(self) -> list[int]:
        """The processes that hold its containers, and outlive it."""
        return [pid for pid, words in _command_lines() if "containerd-shim" in words[0] and self.folder.name in words]

    def _of_this_folder(self) -> list[int]:
        """Its containerd, should a kill have left it."""
        return [
            pid for pid, words in _command_lines() if "containerd" in words[0] and f"{self.folder}/" in " ".join(words)
        ]


def _command_lines() -> Iterator[tuple[int, list[str]]]:
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield int(folder.name), (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
