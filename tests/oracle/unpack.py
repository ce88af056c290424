"""Extracts layers as podman does, stacks them by overlayfs, tells what is there.

Written after containers/storage pkg/archive `Unpack`, with Python's own tar
reader and the kernel's own idea of every call: an opinion of its own on what
src/import/tar and src/squash say. Reads commands from standard input:
  layers DIR   unpacks DIR/0.tar, DIR/1.tar, .. base first, each without the
               entries podman would refuse; answers the walk of the overlay
               mount and [layer, entry] for each left out
  walk DIR     answers the walk of a directory
Every answer is one line of JSON.
"""

import base64, json, os, posixpath, shutil, stat, subprocess, sys, tarfile

SPECIAL = {tarfile.CHRTYPE: stat.S_IFCHR, tarfile.BLKTYPE: stat.S_IFBLK, tarfile.FIFOTYPE: stat.S_IFIFO}
IGNORED = {"security.selinux"}


def nanos(header):
    whole, _, fraction = header.pax_headers.get("mtime", str(int(header.mtime))).partition(".")
    part = int((fraction + "0" * 9)[:9])
    return int(whole) * 10**9 + (-part if whole.startswith("-") else part)


def clamped(ns):
    return ns if 0 <= ns < 2**63 else 0


def unpack(archive, without):
    """One layer into the root directory of this process; the number of the
    entry that podman would refuse it for, if any."""
    made = []
    for number, header in enumerate(archive):
        if number in without:
            continue
        try:
            unpack_entry(archive, header, made)
        except OSError:
            return number
    for fd, ns in made:
        os.utime(fd, ns=(ns, ns))
    return None


def make_parents(path):
    if not os.path.exists(path):
        make_parents(posixpath.dirname(path))
        os.mkdir(path, 0o777)
        os.chown(path, 0, 0)


def unpack_entry(archive, header, made):
    name = posixpath.normpath(header.name or ".")
    path = posixpath.normpath("/" + name).replace("//", "/")
    parent, base = posixpath.split(path)
    if not os.path.lexists(parent):
        make_parents(parent)
    try:
        there = os.lstat(path)
    except OSError:
        there = None
    if there is not None:
        if stat.S_ISDIR(there.st_mode) and name == ".":
            return
        if not stat.S_ISDIR(there.st_mode):
            os.remove(path)
        elif not header.isdir():
            shutil.rmtree(path)
    if base == ".wh..wh..opq":
        os.setxattr(parent, "trusted.overlay.opaque", b"y")
        return
    if base.startswith(".wh."):
        try:
            os.mknod(posixpath.join(parent, base[4:]), stat.S_IFCHR, 0)
        except NotADirectoryError:
            pass
        return
    if header.isdir():
        if there is None or not stat.S_ISDIR(there.st_mode):
            os.mkdir(path, 0o700)
    elif header.type == tarfile.LNKTYPE:
        os.link(posixpath.normpath("/" + header.linkname), path, follow_symlinks=False)
    elif header.issym():
        os.symlink(header.linkname, path)
    elif header.type in SPECIAL:
        os.mknod(path, SPECIAL[header.type], os.makedev(header.devmajor, header.devminor))
    else:
        with open(path, "xb") as file:
            shutil.copyfileobj(archive.extractfile(header), file)
    info = os.lstat(path)
    if (info.st_uid, info.st_gid) != (header.uid, header.gid):
        os.lchown(path, header.uid, header.gid)
    ns = nanos(header)
    if header.issym():
        os.utime(path, ns=(ns, ns), follow_symlinks=False)
    elif not stat.S_ISLNK(os.lstat(path).st_mode):
        os.chmod(path, header.mode & 0o7777)
        os.utime(path, ns=(clamped(ns), clamped(ns)))
    for key, value in header.pax_headers.items():
        if key.startswith("SCHILY.xattr.") and key[13:] not in IGNORED:
            value = value.encode("utf-8", "surrogateescape")
            os.setxattr(path, key[13:], value, follow_symlinks=False)
    if header.isdir():
        # podman sets these by path in the end and so stamps whatever stands
        # there by then; boundstore, on purpose, the directory only
        made.append((os.open(path, os.O_RDONLY | os.O_DIRECTORY), clamped(ns)))


def unpack_in_child(directory, tar, without):
    """chroot is for good, so each layer has a process."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        archive = tarfile.open(tar, errorlevel=2, encoding="utf-8", errors="surrogateescape")
        os.umask(0o022)
        os.chroot(directory)
        os.chdir("/")
        os.write(writer, json.dumps(unpack(archive, without)).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return json.loads(text)


def unpack_layers(directory):
    count = len([name for name in os.listdir(directory) if name.endswith(".tar")])
    root = (0o555, 0, 0)
    left_out = []
    for layer in range(count):
        diff = f"{directory}/diff{layer}"
        without = set()
        while True:
            os.mkdir(diff)
            os.chown(diff, root[1], root[2])
            os.chmod(diff, root[0] & 0o777 & ~0o022)
            refused = unpack_in_child(diff, f"{directory}/{layer}.tar", without)
            if refused is None:
                break
            without.add(refused)
            shutil.rmtree(diff)
        left_out += [[layer, number] for number in without]
        info = os.stat(diff)
        root = (info.st_mode, info.st_uid, info.st_gid)
    os.mkdir(f"{directory}/empty")
    merged = f"{directory}/merged"
    os.mkdir(merged)
    lower = ":".join([f"{directory}/diff{n}" for n in reversed(range(count))] + [f"{directory}/empty"])
    subprocess.run(["mount", "-t", "overlay", "-o", f"ro,lowerdir={lower}", "overlay", merged], check=True)
    try:
        return walk(merged, left_out)
    finally:
        subprocess.run(["umount", merged], check=True)


def walk(root, left_out=()):
    files = {}

    def visit(path, name):
        try:
            info = os.lstat(path)
        except FileNotFoundError:
            return  # a whiteout that readdir lists
        item = {
            "mode": info.st_mode,
            "owner": [info.st_uid, info.st_gid],
            "mtime": [info.st_mtime_ns // 10**9, info.st_mtime_ns % 10**9],
            "xattrs": {
                key: base64.b64encode(os.getxattr(path, key, follow_symlinks=False)).decode()
                for key in os.listxattr(path, follow_symlinks=False)
                if key not in IGNORED
            },
        }
        if stat.S_ISREG(info.st_mode):
            with open(path, "rb") as file:
                item["content"] = base64.b64encode(file.read()).decode()
        elif stat.S_ISLNK(info.st_mode):
            item["target"] = os.readlink(path)
        elif stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode):
            item["device"] = [os.major(info.st_rdev), os.minor(info.st_rdev)]
        if not stat.S_ISDIR(info.st_mode):
            item["inode"] = info.st_ino
        files[name] = item
        if stat.S_ISDIR(info.st_mode):
            for entry in sorted(os.listdir(path)):
                visit(f"{path}/{entry}", f"{name}/{entry}" if name else entry)

    visit(root, "")
    return {"files": files, "left_out": left_out}


for line in sys.stdin:
    command, argument = line.rstrip("\n").split(" ", 1)
    answer = unpack_layers(argument) if command == "layers" else walk(argument)
    print(json.dumps(answer), flush=True)
