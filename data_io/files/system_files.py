"""Recognise what operating systems, storage and programs leave beside photographs, by one table."""

from __future__ import annotations

import re
from fnmatch import translate

FOLDER_MARK = ".mandoo"
"""Name of the file that marks a folder of results; it is never searched for photographs."""
# Names of files and folders that are never photographs of the user, in any case.
SYSTEM_NAMES = (
    # macOS
    *(".ds_store", "._*", "__macosx", "icon\r", ".localized", ".apdisk", ".volumeicon.icns"),
    *(".spotlight-v100", ".trashes", ".fseventsd", ".temporaryitems", "temporary items"),
    *(".documentrevisions-v100", ".appledouble", ".appledb", ".appledesktop"),
    *("network trash folder",),
    # Windows
    *("thumbs.db", "thumbs.db:*", "ehthumbs*.db", "desktop.ini", "$recycle.bin", "recycler"),
    *("system volume information", "found.[0-9][0-9][0-9]", "config.msi", "~$*"),
    # Linux
    *("lost+found", ".trash", ".trash-*", ".directory", ".thumbnails", ".fuse_hidden*", ".nfs*"),
    *(".cache", ".goutputstream-*"),
    # storage: Synology, QNAP, NetApp, ZFS
    *("@eadir", "#recycle", "@recycle", ".@__thumb", "@recently-snapshot", "#snapshot", "@tmp"),
    *("*@synoeastream", "*@synoresource", ".snapshot", ".snapshots", "~snapshot", ".zfs"),
    # programs
    *(".ipynb_checkpoints", "__pycache__", ".git", ".svn", ".hg", ".dvc", ".idea", ".vscode"),
    *(".venv", ".picasaoriginals", ".picasa.ini", "picasa.ini", ".xvpics", "*.lrdata"),
    *(".dropbox", ".dropbox.cache", ".dropbox.attr", ".stfolder", ".stversions", ".sync"),
    *(".syncthing.*", ".tmp.drivedownload", ".tmp.driveupload"),
    # this program
    *(FOLDER_MARK, ".*.mandoo"),
)
# Folders of small copies, if they are in a folder that holds the photographs themselves.
THUMBNAIL_FOLDERS = ("thumb", "thumbs", "thumbnail", "thumbnails", "_thumb", "_thumbs", "@thumb")

_SYSTEM_NAME = re.compile("|".join(translate(pattern) for pattern in SYSTEM_NAMES))


def is_system_file(name: str) -> bool:
    """Return whether a file or folder of this name belongs to a system, not to the user.

    >>> [is_system_file(name) for name in ("Thumbs.db", "._a.jpg", "$RECYCLE.BIN", "a.jpg")]
    [True, True, True, False]
    """
    return _SYSTEM_NAME.match(name.casefold()) is not None


def is_thumbnail_folder(name: str) -> bool:
    """Return whether a folder of this name, beside photographs, holds small copies of them."""
    return name.casefold() in THUMBNAIL_FOLDERS
