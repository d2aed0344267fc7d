"""Compiles the scanner's loop while a wheel is built, if there is a C compiler.

Without one the wheel is for any machine, and decoding is as correct and slower. `LOGPROB_STORE_COMPILE` says otherwise:
`no` compiles nothing, `required` fails without a compiler. `CC` names the compiler, `CFLAGS` more options for it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zlib
from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_FOLDER: Final = "logprob_store/decode/bulk"
_SOURCE: Final = "scan_loop.c"
_LIBRARY: Final = "libscan_loop.so"
_OPTIONS: Final = ("-std=c99", "-O3", "-shared", "-fPIC", "-fvisibility=hidden")
# Needs no libc, so that one build is for each of them.
_LINUX_OPTIONS: Final = ("-ffreestanding", "-nostdlib", "-fno-stack-protector") if sys.platform == "linux" else ()


class ScanLoopHook(BuildHookInterface):
    """Puts the compiled loop into the wheel, or beside its source for an editable install."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before the files are collected; `version` is `editable` or `standard`."""
        source = Path(self.root) / _FOLDER / _SOURCE
        if self.target_name != "wheel":
            return
        if version == "editable":
            self._compile(source, source.with_name(_LIBRARY))
            return
        self._built = tempfile.TemporaryDirectory()  # until the wheel is written
        library = Path(self._built.name) / _LIBRARY
        if not self._compile(source, library):
            return
        build_data["pure_python"] = False
        build_data["force_include"][str(library)] = f"{_FOLDER}/{_LIBRARY}"
        if sys.platform == "linux":
            machine = sysconfig.get_platform().removeprefix("linux-").replace("-", "_")
            build_data["tag"] = f"py3-none-manylinux_2_17_{machine}.musllinux_1_1_{machine}"
        else:
            build_data["infer_tag"] = True

    def _compile(self, source: Path, library: Path) -> bool:
        """Whether there is a library now; a missing compiler is a warning, or an error if one is required."""
        library.unlink(missing_ok=True)
        wish = os.environ.get("LOGPROB_STORE_COMPILE")
        if wish == "no":
            return False
        failure = _failure_of(source, library)
        if failure is None:
            return True
        if wish == "required":
            raise SystemExit(f"{_SOURCE} was not compiled, and LOGPROB_STORE_COMPILE=required: {failure}")
        self.app.display_warning(f"{_SOURCE} was not compiled, so long answers will be decoded slowly: {failure}")
        return False


def _failure_of(source: Path, library: Path) -> str | None:
    """Compile; returns why that failed."""
    compiler = os.environ.get("CC") or next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        return "no C compiler was found (cc, gcc, clang, or what CC names)"
    checksum = f"-DSOURCE_CHECKSUM={zlib.crc32(source.read_bytes())}u"
    wanted = shlex.split(os.environ.get("CFLAGS", ""))
    files = [str(source), "-o", str(library)]
    command = [*shlex.split(compiler), *_OPTIONS, *_LINUX_OPTIONS, checksum, *wanted, *files]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        return f"{shlex.join(command)}\n{error.stderr}"
    except OSError as error:
        return f"{shlex.join(command)}: {error}"
    return None
