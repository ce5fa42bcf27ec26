"""`python install_locked.py [--keep] [--pin=NAME==VERSION] [PIP OPTIONS] FILE.txt`: installs a file into the interpreter that runs it.

First what FILE.lock pins, each file checked against its hashes; then FILE.txt itself, which finds what it asks for in
place. That second step fetches only what a lock cannot hold (a wheel of another index, `# lock: without=...`) or what
a base image's own packages still need. Packages that are there already, as in NVIDIA's images, stay as they are unless
FILE.txt pins them with ==; with --keep they stay in any case, or pip says what is in the way. Without a lock everything
comes by FILE.txt alone, and that is said.

--pin puts another version of one package in the place of the one that FILE.txt asks for. No lock holds what that version
needs: it comes unchecked, which is said. A file that does not ask for the package is installed as ever.

Where it fails, its last line begins with REASON and says why in one line: what pip says of it in many.

Used by environments of this machine and by every Dockerfile, before anything else of framewatt is there: standard
library alone, Python 3.9. `invoke lock` writes the locks.
"""

from __future__ import annotations

import hashlib
import platform
import re
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Container, Dict, Iterator, List, Sequence, Tuple

PIN = "--pin="
#: begins the last line of what failed
REASON = "ERROR: cannot be installed: "
NO_INDEX = "no package index answers"
#: so many versions are named where one does not exist
_NEWEST = 6
#: in a lock's head: digest of the requirements that it was made of
OF = "# of requirements with SHA-256 "


def normalised(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements_of(file: Path) -> Iterator[Tuple[str, str]]:
    """(package, rest of the line) of a requirements file and of those that it includes."""
    for line in file.read_text(encoding="utf-8").splitlines():
        text = re.split(r"(?:^|\s)#", line, maxsplit=1)[0].strip()
        if text.startswith("-r"):
            yield from requirements_of(file.parent / text[2:].strip())
            continue
        found = re.match(r"([A-Za-z0-9][A-Za-z0-9._-]*)(.*)", text)
        if found:
            yield normalised(found.group(1)), found.group(2).strip()


def digest_of(file: Path) -> str:
    """Changes when a requirement does or a directive for `invoke lock`, not when a comment does."""
    directives = re.findall(r"^# lock:.*$", file.read_text(encoding="utf-8"), re.MULTILINE)
    words = [*directives, *(f"{name} {rest}" for name, rest in requirements_of(file))]
    return hashlib.sha256("\n".join(words).encode()).hexdigest()


def entries_of(lock: Path) -> Iterator[Tuple[str, str]]:
    """(package, its lines) of a lock."""
    entry: List[str] = []
    for line in [*lock.read_text(encoding="utf-8").splitlines(), ""]:
        if entry and not line.startswith((" ", "\t")):
            yield normalised(re.split(r"[=\s;\[]", entry[0], maxsplit=1)[0]), "\n".join(entry) + "\n"
            entry = []
        if line and not line.startswith("#"):
            entry.append(line)


def is_current(file: Path, lock: Path) -> bool:
    return OF + digest_of(file) in lock.read_text(encoding="utf-8").splitlines()


def wanted_of(file: Path, lock: Path, held: Container[str], keep: bool = False) -> str:
    """The lock without packages that the interpreter has and `file` does not pin. held: normalised names."""
    pinned = {name for name, rest in requirements_of(file) if "==" in rest and not keep}
    return "".join(text for name, text in entries_of(lock) if name not in held or name in pinned)


def held_packages() -> Dict[str, str]:
    """Name, normalised -> version, of what this interpreter has."""
    found = ((one.metadata["Name"], one.version) for one in metadata.distributions())
    return {normalised(name): version for name, version in found if name}


def pinned_text(file: Path, pin: str) -> str:
    """The requirements with another version of one package, "" where they do not ask for it. pin: NAME==VERSION."""
    wanted, _, version = pin.partition("==")
    found, lines = False, []
    for name, rest in requirements_of(file):
        if name == normalised(wanted):
            found = True
            extras, marker = re.match(r"(\[[^\]]*\])?", rest), rest.partition(";")
            rest = (extras.group() if extras else "") + "==" + version + marker[1] + marker[2]
        lines.append(f"{name}{rest}\n")
    return "".join(lines) if found else ""


def main(arguments: List[str]) -> int:
    *options, name = [word for word in arguments if word != "--keep" and not word.startswith(PIN)]
    keep, held = "--keep" in arguments, held_packages()
    pins = [word[len(PIN) :] for word in arguments if word.startswith(PIN) and word != PIN]
    file = Path(name)
    lock = file.with_suffix(".lock")
    pip = [sys.executable, "-m", "pip", "install", *options]
    text = pinned_text(file, pins[0]) if pins else ""
    if text:
        print(f"{pins[0]} in place of the lock's: packages are not checked against hashes", flush=True)
        with _written(text) as changed:
            return _run([*pip, "-r", changed], file, pins[0])
    if not lock.is_file():
        print(f"{file.name} has no lock: its packages are not checked against hashes", flush=True)
    elif not is_current(file, lock):
        print(f"ERROR: {lock.name} is not of this {file.name}: ./invoke lock makes it anew", file=sys.stderr)
        return 2
    else:
        code = _install_checked(pip, wanted_of(file, lock, held, keep), file)
        if code:
            return code
    with _written("".join(f"{name}=={version}\n" for name, version in held.items() if keep)) as constraints:
        return _run([*pip, "-c", constraints, "-r", str(file)], file)


def _install_checked(pip: List[str], wanted: str, file: Path) -> int:
    if not wanted:
        return 0
    with _written(wanted) as checked:
        # --no-deps: a lock is whole, and what is left out of it is there
        return _run([*pip, "--no-deps", "--require-hashes", "-r", checked], file)


def _run(command: List[str], file: Path, pin: str = "") -> int:
    """Runs pip, whose lines are passed on; where it fails a last one says why. pin: NAME==VERSION that was put into the file."""
    lines: List[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line.rstrip())
    if process.returncode:
        name, _, version = pin.partition("==")
        absent = re.search(r"satisfies the requirement ([^\s=\[]+)\S*==", "\n".join(lines)) if pin else None
        of_pin = absent is not None and normalised(absent[1]) == normalised(name)
        tags = _tags_of([*command[:-2], pin], name, version) if of_pin else []
        print(REASON + reason_of(lines, file.name, pin, tags), flush=True)
    return process.returncode


def reason_of(lines: Sequence[str], file: str = "", pin: str = "", tags: Sequence[str] = ()) -> str:
    """Why pip failed, in one line. lines: what it said of the file. tags: of the wheels that a pinned version has for others."""
    text = "\n".join(lines)
    conflict = re.search(r"The conflict is caused by:\n((?:[ \t]+\S.*\n?)+)", text)
    if conflict:
        parts = [line.strip().replace("The user requested", f"{file} asks for") for line in conflict[1].splitlines()]
        return "these do not go together: " + "; ".join(parts)
    hashed = re.search(r"DO NOT MATCH THE HASHES[\s\S]*?\n\s+(\S+)[^\n]*:\n\s+Expected sha256", text)
    if hashed:
        return f"{hashed[1]} is another file than the one whose hash {file} has in its lock"
    absent = re.search(
        r"Could not find a version that satisfies the requirement ([^\s;(]+).*?\(from versions: ([^)]*)\)", text
    )
    if absent:
        return _absence(absent[1], absent[2], text, pin, tags)
    errors = [line for line in lines if line.lower().startswith("error")]
    words = (
        [line for line in errors if "subprocess-exited-with-error" not in line]
        or errors
        or [line for line in lines if line]
    )
    return re.sub(r"^(?i:error):\s*", "", words[-1]) if words else "pip says nothing"


def _absence(wanted: str, versions: str, text: str, pin: str, tags: Sequence[str]) -> str:
    """Why the index has nothing that will do for a requirement. versions: what pip could have had, oldest first."""
    name, _, version = pin.partition("==")
    there = [] if versions == "none" else versions.split(", ")
    newest = f"; the newest are {', '.join(there[-_NEWEST:])}" if there else ""
    other = re.search(r"[ ;]" + re.escape(version) + r" Requires-Python ([^;\n]+)", text) if version else None
    if other:
        return f"{pin} is for Python {other[1].strip()}, and this is {sys.version.split()[0]}{newest}"
    if tags:
        return f"{pin} has no wheel for {_this_python()}: its wheels are for {', '.join(tags)}{newest}"
    if not there and re.search(r"Retrying \(|connection broken|NameResolutionError|Network is unreachable", text):
        return f"{NO_INDEX}, which is asked for {wanted}"
    if pin and normalised(wanted) == normalised(pin):
        return f"there is no release {version} of {name} for {_this_python()}{newest}"
    needs = f"{pin} needs {wanted}, of which" if pin else f"of {wanted}"
    return f"{needs} there is no release for {_this_python()}{newest}"


def _this_python() -> str:
    return f"Python {sys.version_info[0]}.{sys.version_info[1]} on {platform.machine()}"


def _tags_of(command: List[str], name: str, version: str) -> List[str]:
    """Tags of the wheels that a release has, asked of pip: Pythons, and the machine where that is another one; [] without any."""
    output = subprocess.run([*command, "--dry-run", "--no-deps", "-vv"], capture_output=True, text=True).stdout
    skipped = re.findall(r"Skipping link: none of the wheel's tags \([^)]*\) are compatible.*?([^/\s]+)\.whl", output)
    found = [words for words in (file.split("-") for file in skipped) if len(words) >= 5]
    mine = [
        words for words in found if normalised(words[0]) == normalised(name) and words[1].replace("%2B", "+") == version
    ]
    here = [words for words in mine if platform.machine() in words[-1] or words[-1] == "any"]
    tags = {words[-3] for words in here} or {f"{words[-3]} on {words[-1]}" for words in mine}
    return sorted(tags, key=lambda tag: [int(part) if part.isdigit() else 0 for part in re.findall(r"\d+|\D+", tag)])[
        -12:
    ]


@contextmanager
def _written(text: str) -> Iterator[str]:
    """Path of a temporary file that holds the text."""
    with tempfile.TemporaryDirectory(prefix="framewatt-") as folder:
        file = Path(folder) / "requirements.txt"
        file.write_text(text, encoding="utf-8")
        yield str(file)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
