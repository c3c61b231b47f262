"""Litter: files that computers and their programs add to a folder by themselves.

A folder that somebody looked into, copied or kept in step with another machine holds more than was put there. What is
listed here is neither a result, nor an answer, nor a reason to refuse one.
"""

from __future__ import annotations

import re

#: Whole names, in lower case, since file systems of Windows and of a Macintosh do not tell them apart.
_NAMES = frozenset(
    {
        # a Macintosh
        ".ds_store", "__macosx", ".appledouble", ".lsoverride", ".spotlight-v100", ".trashes", ".fseventsd",
        ".temporaryitems", ".documentrevisions-v100", ".apdisk", ".localized", "icon\r",
        # Windows
        "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "$recycle.bin", "system volume information",
        # a desktop of Linux, and servers of files
        ".directory", "@eadir", "lost+found",
        # programs that keep folders in step
        ".dropbox", ".dropbox.attr", ".dropbox.cache", ".stfolder", ".stversions", ".stignore", ".owncloudsync.log",
        ".tmp.drivedownload", ".tmp.driveupload",
    }
)  # fmt: skip
_KINDS = re.compile(
    r"""
    \._.+                                               # what a Macintosh writes beside a file elsewhere
    | .+:zone\.identifier                               # where Windows had it from
    | \.nfs[0-9a-f]{16,} | \.fuse_hidden[0-9a-f]+ | \.trash-\d+
    | \.?_?sync_[0-9a-f]+\.db(-shm|-wal)?               # Nextcloud, ownCloud
    | .+\ \(.*(conflicted\ copy|case\ conflict|conflit|konflikt|conflicto).*\)(\.[^.]+)*    # Dropbox, Nextcloud
    | .+[._]sync-conflict-\d{8}-\d{6}(-[a-z0-9]{7})?(\.[^.]+)*                              # Syncthing
    | .+[._-]conflict-\d{8}-\d{6}(\.[^.]+)*                                                 # ownCloud
    | \..+\.(sw[a-p]|kate-swp) | \.sw[a-p]              # vim, nano, Kate
    | .+~ | \.\#.+ | \#(?!.*\.\d+\#\Z).+\#              # Emacs; GROMACS calls what it keeps #name.1#
    | ~\$.+ | \.~lock\..+\#                             # office programs
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)


def is_litter(path: str) -> bool:
    r"""Return whether a file is there only because a computer, or a program that keeps folders in step, made it.

    Parameters
    ----------
    path : str
        A name, or a path with slashes: what lies in such a folder is litter too.

    Examples
    --------
    >>> [is_litter(name) for name in (".DS_Store", "0.relax.1/._submit.sh", "OUTCAR", "#md.log.1#")]
    [True, True, False, False]
    """
    return any(part.lower() in _NAMES or _KINDS.fullmatch(part) is not None for part in path.split("/"))
