"""Run git: ended where it stands still, killed with all its helpers, and its complaints turned into our errors.

A large repository takes its time: not the length of a call ends it, but a time without progress. Progress is output, git's
own count of objects included, or processor time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from airflow_pipeops.base.folders import PrivateFolder
from airflow_pipeops.exceptions import AccessDenied, InvalidInput, NotFound, SystemFailure, Unreachable
from airflow_pipeops.git.credentials import Credentials, environment, shown

_DENIED = re.compile(
    r"Authentication failed|could not read (Username|Password)|Permission denied|returned error: 40[13]|"
    r"Host key verification failed|not authorized|access denied|terminal prompts disabled|Authentication required",
    re.IGNORECASE,
)
_UNTRUSTED = re.compile(
    r"SSL certificate problem|certificate verif|certificate subject name|does not match target host|"
    r"certificate .*(expired|not trusted|mismatch)|setting certificate|error reading ca cert",
    re.IGNORECASE,
)
_ABSENT = re.compile(
    r"repository .*not found|does not exist|does not appear to be a git repository|returned error: 404|"
    r"couldn't find remote ref|not our ref|no such remote ref|unadvertised object",
    re.IGNORECASE,
)
_NETWORK = re.compile(
    r"Could not resolve|Couldn't connect|Failed to connect|Connection (refused|reset|timed out|closed)|timed out|"
    r"returned error: (429|5\d\d)|early EOF|hung up|RPC failed|unable to access|Network is unreachable|"
    r"Operation too slow|unexpected disconnect|Empty reply|gnutls|kex_exchange|bad line length|protocol error|"
    r"index-pack failed|Could not read from remote",
    re.IGNORECASE,
)
#: Git's counting, which shows that it moves; it is no complaint.
_COUNTING = re.compile(
    r"^(?:remote: )?(?:[A-Z][a-z]+(?: [a-z]+)*: +\d+(?:%| \().*|[A-Z][a-z]+ing objects: .*|Total \d+ .*"
    r"|Delta compression .*)$",
    re.MULTILINE,
)
#: How much of its complaints is kept, in bytes: the end says why it gave up.
_KEPT = 64 * 1024
#: How long the output of a call may be, in bytes: any, and one that a triggerer asks for.
MOST, FEW = 256 * 1024**2, 1024**2
#: What a triggerer asks for ends after so many times the patience, however it moves: a server can go on for ever.
LONGEST = 10


def passing(said: str) -> bool:
    """Tell whether a complaint of git is about the network or a busy server, which the next attempt may not meet.

    :param said: what git wrote.
    :return: whether it is; what is refused, not trusted or not there, is so the next time, too.
    """
    lasting = (_UNTRUSTED, _DENIED, _ABSENT)
    return bool(_NETWORK.search(said)) and not any(pattern.search(said) for pattern in lasting)


@dataclass(frozen=True)
class Output:
    """What a git process left.

    :param code: exit status.
    :param stdout: its output, as bytes.
    :param stderr: its complaints, with secrets masked.
    """

    code: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        """Its output as text, without the line break at the end."""
        return self.stdout.decode("utf-8", "replace").rstrip("\n")


class Watch:
    """Says whether a process moves.

    :param pid: of the process.
    :param patience: seconds for which it may stand still.
    :param tell: is called now and then while it moves.
    """

    def __init__(self, pid: int, patience: float, tell: Callable[[], None] | None = None) -> None:
        self._pid, self.patience, self._tell = pid, patience, tell
        self._moved_at, self._used = time.monotonic(), ""

    @property
    def pause(self) -> float:
        """Seconds between two looks."""
        return min(1.0, self.patience / 4)

    def moved(self) -> None:
        """Note that it moved."""
        self._moved_at = time.monotonic()

    def is_stuck(self) -> bool:
        """Look at it; whether it has stood still for too long."""
        with contextlib.suppress(OSError):  # there is no /proc but on Linux
            used = (
                Path(f"/proc/{self._pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[11:15]
            )
            if str(used) != self._used:
                self._used = str(used)
                self.moved()
        still = time.monotonic() - self._moved_at
        if self._tell is not None and still < 2 * self.pause:
            self._tell()
        return still > self.patience


class Git:
    """Runs the git command line for one repository.

    :param url: where the repository is; shown, masked, in errors.
    :param credentials: what opens it.
    :param timeout: seconds without progress after which a call is ended.
    """

    def __init__(self, url: str, credentials: Credentials, timeout: float) -> None:
        self.url = url
        self.credentials = credentials
        self.timeout = timeout
        self._private: Path | None = None
        if credentials.private_key or credentials.known_hosts or credentials.signing_private_key:
            folder = PrivateFolder("pipeops-git-")
            self._private = folder.path
            weakref.finalize(self, folder.close)
        self._environment = environment(url, credentials, self._private)

    def run(
        self,
        *arguments: str,
        accept: tuple[int, ...] = (0,),
        stdin: bytes = b"",
        directory: Path | None = None,
        extra: dict[str, str] | None = None,
        tell: Callable[[], None] | None = None,
    ) -> Output:
        """Run git and wait for it.

        :param accept: exit statuses that are not an error.
        :param directory: the git directory to work in.
        :param extra: further environment.
        :param tell: is called now and then while it makes progress.
        :return: what it left.
        :raises SystemFailure: of the fitting kind, if it fails or stands still.
        """
        try:
            process = subprocess.Popen(
                self._command(arguments, directory),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**self._environment, **(extra or {})},
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise _no_git() from error
        try:
            stdout, stderr = _talk(process, stdin, Watch(process.pid, self.timeout, tell))
        except TimeoutError as error:
            raise self._too_slow(arguments) from error
        except _TooLong as error:
            raise self._too_long(arguments, MOST) from error
        finally:
            _kill_group(process.pid, process.poll)
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                with contextlib.suppress(OSError):
                    if pipe is not None:
                        pipe.close()
        return self._judge(arguments, Output(process.returncode, stdout, self._clean(stderr)), accept)

    async def arun(self, *arguments: str, accept: tuple[int, ...] = (0,)) -> Output:
        """Run git without blocking the event loop; a cancelled call ends the process. See :meth:`run`.

        Its output is one of few lines: a triggerer has no room for more, and :data:`LONGEST` times the patience is enough.

        :return: what it left.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command(arguments, None),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=self._environment,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise _no_git() from error
        watch, output, complaints = Watch(process.pid, self.timeout), bytearray(), bytearray()
        reading = asyncio.gather(
            _aread(process.stdout, output, watch, most=FEW),
            _aread(process.stderr, complaints, watch, keep=_KEPT),
        )
        began = time.monotonic()
        try:
            while not reading.done():
                await asyncio.wait({reading}, timeout=watch.pause)
                if len(output) > FEW:
                    raise self._too_long(arguments, FEW)
                overdue = time.monotonic() - began > LONGEST * self.timeout
                if not reading.done() and (overdue or watch.is_stuck()):
                    raise self._too_slow(arguments)
        finally:
            _kill_group(process.pid, lambda: process.returncode)
            await asyncio.wait({reading}, timeout=watch.pause)  # to the end, which comes with the death
            reading.cancel()
            await process.wait()
        code = process.returncode if process.returncode is not None else -1
        return self._judge(arguments, Output(code, bytes(output), self._clean(complaints)), accept)

    def stream(self, *arguments: str, stdin: Path, directory: Path) -> subprocess.Popen[bytes]:
        """Start git with a file as its input, for a caller that reads its output as it comes and ends it."""
        with stdin.open("rb") as source:
            return subprocess.Popen(
                self._command(arguments, directory),
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=self._environment,
                start_new_session=True,
            )

    def _command(self, arguments: tuple[str, ...], directory: Path | None) -> list[str]:
        place = [f"--git-dir={directory}"] if directory is not None else []
        return ["git", *place, *arguments]

    def _clean(self, stderr: bytes | bytearray) -> str:
        lines = stderr.decode("utf-8", "replace").replace("\r", "\n")
        return "\n".join(filter(str.strip, shown(_COUNTING.sub("", lines)).splitlines())).strip()

    def _judge(self, arguments: tuple[str, ...], output: Output, accept: tuple[int, ...]) -> Output:
        if output.code in accept:
            return output
        raise self.failure(arguments[0], output)

    def failure(self, command: str, output: Output) -> SystemFailure:
        """Return the error that fits what git said."""
        said = " ".join(output.stderr.split())[-600:] or f"exit status {output.code}"
        where = shown(self.url)
        if "dubious ownership" in output.stderr:
            return AccessDenied(
                f"the folder of the repository {where} belongs to another user than the one that runs this task",
                remedy="Git does not open it. Give it to this user, or reach it by ssh:// or https://.",
            )
        if _UNTRUSTED.search(output.stderr):
            return AccessDenied(
                f"the certificate of {where} is not trusted: {said}",
                remedy="Name the PEM file of a private authority in ca_file, and the host as the certificate names it.",
            )
        if _DENIED.search(output.stderr):
            return AccessDenied(
                f"the repository {where} refused us: {said}",
                remedy="Check the connection's login, token, SSH key, passphrase, known hosts and CA file.",
            )
        if _ABSENT.search(output.stderr):
            return NotFound(
                f"not found at {where}: {said}",
                remedy="Check the URL and the branch, and that the credential may see the repository.",
            )
        if _NETWORK.search(output.stderr) or output.code < 0:
            return Unreachable(f"the repository {where} cannot be reached: {said}")
        return SystemFailure(f"git {command} failed on {where}: {said}")

    def _too_long(self, arguments: tuple[str, ...], most: int) -> SystemFailure:
        return SystemFailure(
            f"git {arguments[0]} on {shown(self.url)} gave more than {most / 1024**2:g} MB; the rest was not read",
            remedy="Is the URL that of the repository which is meant?",
        )

    def _too_slow(self, arguments: tuple[str, ...]) -> Unreachable:
        return Unreachable(
            f"git {arguments[0]} on {shown(self.url)} made no progress for {self.timeout:g} s",
            remedy="Raise the timeout of the connection, if the server needs longer to answer.",
        )


def _talk(process: subprocess.Popen[bytes], stdin: bytes, watch: Watch) -> tuple[bytes, bytes]:
    """Give a process its input, and return its output and complaints.

    :raises TimeoutError: if it stands still for too long.
    :raises _TooLong: if its output has no end.
    """
    output, complaints = bytearray(), bytearray()

    def write() -> None:
        with contextlib.suppress(OSError, ValueError):
            if process.stdin is not None:
                process.stdin.write(stdin)
                process.stdin.close()

    threads = [
        threading.Thread(target=_read, args=(process.stdout, output, process, watch), daemon=True),
        threading.Thread(target=_read, args=(process.stderr, complaints, process, watch, _KEPT), daemon=True),
        threading.Thread(target=write, daemon=True),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(watch.pause)
            if thread.is_alive() and watch.is_stuck():
                raise TimeoutError
    if len(output) > MOST:
        raise _TooLong
    process.wait()
    return bytes(output), bytes(complaints)


def _read(
    pipe: IO[bytes] | None, into: bytearray, process: subprocess.Popen[bytes], watch: Watch, keep: int = 0
) -> None:
    """Read a pipe to its end; of complaints the end is kept, and what gives too much output is ended."""
    with contextlib.suppress(OSError, ValueError):  # it was closed over our head
        while pipe is not None and (piece := os.read(pipe.fileno(), 65536)):
            into += piece
            if keep and len(into) > 2 * keep:
                del into[:-keep]
            if len(into) > MOST:
                _kill_group(process.pid, process.poll)
                return
            watch.moved()


async def _aread(
    stream: asyncio.StreamReader | None, into: bytearray, watch: Watch, *, most: int = 0, keep: int = 0
) -> None:
    """Read a pipe to its end; of complaints the end is kept, of output the beginning and a little more than the most.

    What nobody reads to its end holds up the process even when it is dead.
    """
    while stream is not None and (piece := await stream.read(65536)):
        watch.moved()
        if not most or len(into) <= most:
            into += piece
        if keep and len(into) > 2 * keep:
            del into[:-keep]


class _TooLong(Exception):
    """Git gives more output than anybody asked for."""


def _kill_group(pid: int, ended: Callable[[], int | None]) -> None:
    """End a process that still runs, with the transport helpers that it started."""
    if ended() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def _no_git() -> InvalidInput:
    return InvalidInput(
        "the program git is not installed on this machine",
        field="git",
        remedy="Install git (2.34 or newer) in the image of the Airflow workers and the triggerer.",
    )
