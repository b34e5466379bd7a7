"""One virtual environment per peer, made on first use with the plain `venv` and `pip` of this interpreter.

Standard library only. torch is pinned in all of them to the version we run ourselves; where pip takes it from (a CPU or
a CUDA build) is up to pip's own configuration.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

TORCH = "torch==2.13.0"
REQUIREMENTS = {
    # RecBole loads ray 2.6, which still wants pkg_resources and the names numpy 2 dropped.
    "recbole": (TORCH, "recbole==1.2.1", "setuptools<81", "numpy<2", "pandas<3", "scipy<1.14"),
    "rectools": (TORCH, "rectools[torch]==0.19.0"),
    "replay": (TORCH, "replay-rec[torch]==0.22.0"),
}
INSTALL_TIMEOUT_S = 1800
STAMP = "requirements.txt"


class InstallError(Exception):
    """A peer's environment could not be made; the message is one line."""


def stamp(peer: str) -> str:
    """What an environment must have been made from to be used again."""
    return "\n".join((f"# python {sys.version_info.major}.{sys.version_info.minor}", *REQUIREMENTS[peer])) + "\n"


def ensure(peer: str, folder: Path) -> Path:
    """Return the interpreter of the peer's environment under `folder`, which is made if it is missing or out of date.

    Raises:
        InstallError: venv or pip failed. What is half made is left without a stamp, so the next call begins anew.
    """
    environment = folder.resolve() / f"venv-{peer}"
    # Not resolve(): the link itself is what makes it the environment's interpreter.
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamped = environment / STAMP
    if stamped.exists() and stamped.read_text() == stamp(peer):
        return python

    if environment.exists():
        shutil.rmtree(environment)
    folder.mkdir(parents=True, exist_ok=True)
    _run([sys.executable, "-m", "venv", str(environment)], folder / f"install-{peer}.log")
    _run([str(python), "-m", "pip", "install", *REQUIREMENTS[peer]], folder / f"install-{peer}.log")
    stamped.write_text(stamp(peer))
    return python


def _run(command: list[str], log: Path) -> None:
    try:
        with log.open("w") as out:
            subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, check=True, timeout=INSTALL_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise InstallError(f"no end within {INSTALL_TIMEOUT_S} s (see {log.name})") from error
    except subprocess.CalledProcessError as error:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        reason = next(
            (line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else str(error)
        )
        raise InstallError(f"{reason} (see {log.name})") from error
    except OSError as error:
        raise InstallError(str(error)) from error
