"""The state folder: made for its user alone, and refused where an index cannot live."""

import errno
import os
from pathlib import Path

from pipeline.errors import ConfigError
from pipeline.tools.files import make_folder
from pipeline.tools.mounts import MOUNTINFO, mount_of


def prepare_state(folder: Path) -> None:
    """Make the state folder where it is missing, keep it for its user alone, and refuse one that an index cannot live in.

    Raises:
        ConfigError: with the reason and the remedy.
    """
    try:
        make_folder(folder, mode=0o700)
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        folder.chmod(0o700)
    except OSError as error:
        raise ConfigError(
            f"state: {folder} cannot be used ({error.strerror}); name a folder that this user may make and write to"
        ) from error
    refuse_shared(folder)


def refuse_shared(folder: Path, *, mountinfo: Path = MOUNTINFO) -> None:
    """Refuse a folder for the index that lies on a network or host-shared file system.

    Raises:
        ConfigError: with the file system and the remedy.
    """
    mount = mount_of(folder, mountinfo=mountinfo)
    if mount is not None and mount.shared:
        raise ConfigError(
            f"state: {folder} lies on a shared file system ({mount.type}, {mount.source} at {mount.point}), where "
            "SQLite's locks and shared memory cannot be relied on and an index may be damaged; "
            "set `state:` to a folder on a local disk (the jobs folder may stay where it is)"
        )
