"""What the tests find on a machine: its other Pythons, free ports, and programs that may be missing."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

import other_pythons
import programs
from ports import free_port


def interpreter(path: Path, status: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\nexit {status}\n")
    path.chmod(0o755)
    return path


def test_of_each_newer_python_one_that_starts_is_found_the_newest_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{tmp_path / 'nowhere'}")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    on_the_path = interpreter(tmp_path / "bin" / "python3.29")
    for version in ("3.29.1", "3.30.9", "3.30.10", "3.8.18"):
        minor = version.rpartition(".")[0]
        interpreter(tmp_path / "pyenv" / "versions" / version / "bin" / f"python{minor}")
    interpreter(tmp_path / "bin" / "python3.30", status=127)  # as pyenv's shims do
    interpreter(tmp_path / "bin" / "python3.30-config")

    assert other_pythons.newer(28) == [
        tmp_path / "pyenv" / "versions" / "3.30.10" / "bin" / "python3.30",
        on_the_path,
    ]
    assert other_pythons.newer(30) == []


@pytest.mark.parametrize("required", ["", "redis"])
def test_a_missing_program_is_a_skip(required: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSGI_SESSIONS_REQUIRE", required)

    with pytest.raises(pytest.skip.Exception, match="there is no nginx"):
        programs.missing("proxies", "there is no nginx")


def test_a_missing_program_that_is_required_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSGI_SESSIONS_REQUIRE", "redis,proxies")

    with pytest.raises(pytest.fail.Exception, match="names proxies, but there is no nginx"):
        programs.missing("proxies", "there is no nginx")


def test_a_server_may_listen_on_a_free_port_and_a_second_time() -> None:
    port = free_port()
    for _ in range(2):
        with socket.create_server(("127.0.0.1", port)) as server:
            assert server.getsockname()[1] == port
