"""What kind of file system a folder lies on, as far as the kernel tells (`/proc/self/mountinfo`, Linux only)."""

import re
from pathlib import Path
from typing import NamedTuple

MOUNTINFO = Path("/proc/self/mountinfo")

# Other machines, or the host of a virtual machine, write there too, and this kernel does not see them do it.
# fmt: off
_SHARED = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fhgfs", "gfs", "gfs2", "glusterfs", "gpfs",
    "lustre", "ncpfs", "nfs", "nfs3", "nfs4", "ocfs2", "orangefs", "panfs", "prl_fs", "smb3", "smbfs", "vboxsf",
    "vmhgfs",
})
_SHARED_OVER_FUSE = frozenset({
    "ceph", "cephfs", "curlftpfs", "davfs", "davfs2", "gcsfuse", "glusterfs", "goofys", "grpcfuse", "jfs",
    "juicefs", "osxfs", "rclone", "s3fs", "seaweedfs", "sshfs", "vmhgfs-fuse", "weed",
})
# fmt: on


class Mount(NamedTuple):
    """One line of the mount table."""

    point: Path
    type: str  # "ext4", "nfs4", "fuse.sshfs"
    source: str  # "/dev/vda", "server:/export"

    @property
    def shared(self) -> bool:
        """Whether other machines may write there unseen, so that locks, leases and events cannot be relied on."""
        return self.type in _SHARED or self.type.removeprefix("fuse.") in _SHARED_OVER_FUSE


def mount_of(path: Path, *, mountinfo: Path = MOUNTINFO) -> Mount | None:
    """Find the mount that a path lies on, whether or not it exists yet; None where the system does not tell."""
    try:
        lines = mountinfo.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    place = path.resolve()
    found: Mount | None = None
    for line in lines:
        mount = _read_line(line)
        # A later mount at the same point hides the earlier one.
        if mount and place.is_relative_to(mount.point) and (found is None or mount.point.is_relative_to(found.point)):
            found = mount
    return found


def _read_line(line: str) -> Mount | None:
    """Read `36 35 98:0 / /mnt rw,noatime shared:1 - ext4 /dev/sda1 rw`: see proc_pid_mountinfo(5)."""
    before, dash, after = line.partition(" - ")
    front, back = before.split(" "), after.split(" ")
    if not dash or len(front) < 5 or len(back) < 2:
        return None
    return Mount(Path(_unescape(front[4])), back[0], _unescape(back[1]))


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), text)
