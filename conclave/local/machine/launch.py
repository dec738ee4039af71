"""Replaces itself by a program that dies with its parent. Run as a script: it imports nothing of Conclave.

    launch.py PARENT_PID SIGNAL UID:GID|- DIRECTORY|- PROGRAM [ARGUMENT...]

In a process of its own, and not in a `preexec_fn`, because that may deadlock where the parent has threads.
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1
_EXIT_NOT_STARTED = 127


def main(arguments: list[str]) -> None:
    """Never returns: the program takes this process over, or the exit status is 127 with a line on stderr.

    1. Enter the directory while still allowed to: the new user may not be able to traverse the way to it.
    2. Become the user. Changing credentials clears the death signal, so it comes after.
    3. Ask for the death signal, then see whether the parent died before it could be sent.
    4. Become the program.
    """
    parent, death_signal, owner, directory, *command = arguments
    if directory != "-":
        os.chdir(directory)  # 1
    if owner != "-":
        uid, gid = (int(part) for part in owner.split(":"))  # 2
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)  # 3
    if os.getppid() != int(parent):
        sys.exit(_EXIT_NOT_STARTED)
    try:
        os.execvp(command[0], command)  # 4
    except OSError as error:
        print(f"cannot run {command[0]}: {error.strerror}", file=sys.stderr)
        sys.exit(_EXIT_NOT_STARTED)


if __name__ == "__main__":
    main(sys.argv[1:])
