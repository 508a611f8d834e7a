"""The reports that a sidecar wrote to its log, taken out of it again. Pure."""

from __future__ import annotations

import binascii
import gzip
import hashlib
import re
import zlib
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass, field

from airflow_pipeops.build.cluster.pods import MOST

_BEGIN = re.compile(r"=== pipeops begin (?P<name>\S+) (?P<size>\d+) (?P<hash>[0-9a-f]{64})")
_TOO_LARGE = re.compile(
    r"=== pipeops too-large (?P<name>\S+) (?P<size>\d{1,15}) (?P<most>\d{1,15})(?P<packed> packed)?"
)


@dataclass(frozen=True)
class HandedOver:
    """What came of the reports.

    :param files: name -> content.
    :param problems: name -> why there is none, though there was a file.
    :param whole: the sidecar said that this was all; otherwise something may be missing.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    whole: bool = False


def handed_over(lines: Sequence[str]) -> HandedOver:
    """Read the log of the sidecar.

    :param lines: of its log, in order.
    :return: the reports.
    """
    found, at = HandedOver(whole="=== pipeops all" in lines), 0
    while at < len(lines):
        if large := _TOO_LARGE.fullmatch(lines[at]):
            packed = ", packed" if large["packed"] else ""
            said = (
                f"it has {int(large['size']):,} bytes{packed}, and there is room for {int(large['most']):,}"
            )
            found.problems[large["name"]] = said
        if begin := _BEGIN.fullmatch(lines[at]):
            end = f"=== pipeops end {begin['name']}"
            stop = lines.index(end, at) if end in lines[at:] else len(lines)
            content = _content(lines[at + 1 : stop], int(begin["size"]), begin["hash"])
            if content is None:
                found.problems[begin["name"]] = "it was cut or changed on its way through the log"
            else:
                found.files[begin["name"]] = content
            at = stop
        at += 1
    return found


def _content(lines: Sequence[str], size: int, digest: str) -> bytes | None:
    if size > MOST:
        return None
    try:
        packed = b64decode("".join(lines), validate=True)
        # No more than was announced, whatever the packed bytes would become.
        content = zlib.decompressobj(wbits=31).decompress(packed, size + 1)
    except (ValueError, binascii.Error, zlib.error, gzip.BadGzipFile):
        return None
    return content if len(content) == size and hashlib.sha256(content).hexdigest() == digest else None
