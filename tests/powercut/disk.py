"""The possible contents of a disk after a power cut, rebuilt from the system calls of a program.

The data of a call is durable only if an fsync or fdatasync of the same file began after the call had ended, and has
ended itself. A name is durable only after an fsync of its directory. Everything else may or may not be on the disk, in
any order. A write may be there in part, in pieces of 512 bytes. sync_file_range does not count.
"""

import os
import re
import zlib

SECTOR = 512
SEGMENT = 512 * 1024

CALLS = ("open,openat,creat,lseek,write,writev,pwrite64,sendto,sendmsg,ftruncate,fallocate,fsync,fdatasync,sync_file_range,rename,"
         "renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,link,linkat,symlink,symlinkat,mmap,copy_file_range,sendfile")
STRACE = ["strace", "-f", "-y", "-xx", "-s", "2000000", "-e", "trace=" + CALLS, "-e", "signal=none"]

QUOTED = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
OPENED = re.compile(r"<((?:\\x[0-9a-f]{2})+)>")


def unhex(text):
    return bytes.fromhex(text.replace("\\x", ""))


class Node:
    """A file or a directory with all operations on it, in order."""

    def __init__(self, path, is_dir):
        self.path, self.is_dir = path, is_dir
        self.done = []      # (began, ended, action, ...)
        self.syncs = []     # (began, ended)

    def split(self, cut):
        """Returns the operations that are durable at a position, and those that may be on the disk."""
        synced = max((began for began, ended in self.syncs if ended < cut), default=-1)
        past = [step for step in self.done if step[0] < cut]
        return [s for s in past if s[1] < synced], [s for s in past if s[1] >= synced]


class Recording:
    """The system calls of one or more runs of a program below one directory. A position is a line number in their
    traces."""

    def __init__(self, root):
        self.root = root
        self.top = Node(root, True)
        self.names = {root: self.top}
        self.lines = 0
        self.answers = {}   # request id -> position at which its answer was written
        self.ranges = 0     # number of sync_file_range calls with an effect
        self.writes = []    # positions after file writes, for the choice of cuts

    def read(self, path):
        """Reads the trace of one run."""
        self.offsets = {}
        waiting = {}
        with open(path) as trace:
            for line in trace:
                pid, _, text = line.rstrip("\n").partition(" ")
                text, here = text.lstrip(), self.lines
                self.lines += 1
                if text.endswith("<unfinished ...>"):
                    waiting[pid] = (here, text[:-len("<unfinished ...>")].rstrip())
                elif text.startswith("<... "):
                    if pid in waiting:
                        began, first = waiting.pop(pid)
                        self.call(began, here, first + text.partition(" resumed>")[2])
                elif "(" in text:
                    self.call(here, here, text)

    def call(self, began, ended, text):
        name, _, rest = text.partition("(")
        arguments, _, result = rest.rpartition(" = ")
        if result.startswith("-1 ") or result.startswith("?"):
            return
        if name in ("write", "writev", "sendto", "sendmsg") and "socket:" in self.path_of(arguments):
            for chunk, _ in QUOTED.findall(arguments):
                for identifier in re.findall(rb"\r\n[Xx]-[Rr]equest-[Ii]d: ([^\r]*)\r\n", unhex(chunk)):
                    self.answers.setdefault(identifier.decode(), began)
            return
        if name in ("open", "openat", "creat"):
            number = int(re.match(r"\d+", result).group())
            self.offsets[number] = 0
            path = self.path_of(result)
            if self.inside(path):
                if path not in self.names:
                    if "O_CREAT" not in arguments:
                        raise RuntimeError(f"{path} was opened and never made")
                    self.make(began, ended, path, False)
                elif "O_TRUNC" in arguments:
                    self.names[path].done.append((began, ended, "size", 0))
            return
        if name in ("mkdir", "mkdirat", "unlink", "unlinkat", "rmdir", "rename", "renameat", "renameat2"):
            base = self.path_of(arguments.partition(",")[0])
            paths = [os.path.join(base or "/", unhex(p).decode()) for p, _ in QUOTED.findall(arguments)]
            if not self.inside(paths[0]):
                return
            if name.startswith("mkdir"):
                self.make(began, ended, paths[0], True)
                return
            if name.startswith("unlink") and paths[0] not in self.names:
                # A socket: `bind` made it, and it holds no data.
                return
            node = self.names.pop(paths[0])
            folder, leaf = self.place(paths[0])
            if name.startswith("rename"):
                target, other = self.place(paths[1])
                if folder is not target:
                    raise RuntimeError(f"{paths[0]} moves to another directory, which is not modelled")
                folder.done.append((began, ended, "rename", leaf, other, node))
                for path in [p for p in self.names if p.startswith(paths[0] + "/")]:
                    self.names[paths[1] + path[len(paths[0]):]] = self.names.pop(path)
                self.names[paths[1]] = node
            else:
                folder.done.append((began, ended, "remove", leaf))
            return
        path = self.path_of(arguments)
        number = re.match(r"\d+", arguments)
        if name == "lseek" and number:
            self.offsets[int(number.group())] = int(result)
            return
        if name == "mmap":
            if "MAP_SHARED" in arguments and "PROT_WRITE" in arguments and self.inside(path):
                raise RuntimeError(f"{path} is written by a mapping, which is not modelled")
            return
        if not self.inside(path):
            return
        node = self.names[path]
        if name in ("fsync", "fdatasync"):
            node.syncs.append((began, ended))
        elif name == "sync_file_range":
            self.ranges += 1
        elif name in ("write", "pwrite64"):
            (chunk, cut_off), data = QUOTED.findall(arguments)[0], None
            if cut_off:
                raise RuntimeError("strace did not show all of a write")
            data = unhex(chunk)[:int(result.split()[0])]
            if name == "pwrite64":
                offset = int(arguments.rpartition(",")[2].rstrip(") "))
            else:
                offset = self.offsets.get(int(number.group()), 0)
                self.offsets[int(number.group())] = offset + len(data)
            node.done.append((began, ended, "write", offset, data))
            self.writes.append(ended + 1)
        elif name == "ftruncate":
            node.done.append((began, ended, "size", int(re.search(r", (\d+)\)", arguments + ")").group(1))))
        else:
            raise RuntimeError(f"a call that is not modelled: {text[:120]}")

    def path_of(self, text):
        found = OPENED.search(text)
        return unhex(found.group(1)).decode() if found else ""

    def inside(self, path):
        return path == self.root or path.startswith(self.root + "/")

    def place(self, path):
        folder, leaf = os.path.split(path)
        return self.names[folder], leaf

    def make(self, began, ended, path, is_dir):
        node = self.names[path] = Node(path, is_dir)
        folder, leaf = self.place(path)
        folder.done.append((began, ended, "add", leaf, node))

    def engines(self):
        """Returns the data files of the engine."""
        return [node for path, node in self.names.items() if path.endswith("/db/db")]

    def unsynced_and_called_stable(self):
        """Returns the segment heads of the engine that call an earlier segment stable although its own head was not
        durable yet."""
        found = []
        for node in self.engines():
            begun = []      # (ended, number) of heads
            for began, ended, action, *more in node.done:
                if action != "write" or more[0] % SEGMENT or len(more[1]) < 20:
                    continue
                if int.from_bytes(more[1][:4], "little") ^ 0xFFFFFFFF != zlib.crc32(more[1][4:20]):
                    continue            # a freed segment
                first, stable = (int.from_bytes(more[1][at:at + 8], "little", signed=True) ^ (2**63 - 1) for at in (4, 12))
                for other, number in begun:
                    durable = any(other < s and e < began for s, e in node.syncs)
                    if not durable and 0 <= number <= stable:
                        found.append((began, number // SEGMENT, first // SEGMENT))
                begun.append((ended, first))
        return found

    def build(self, cut, target, choose):
        """Writes the possible content of a disk at a position to a new directory."""
        def fill(node, path):
            durable, pending = node.split(cut)
            if not node.is_dir:
                with open(path, "wb") as file:
                    file.write(content(durable, pending, choose))
                return
            os.mkdir(path, 0o700)
            entries = {}
            for step in durable + choose.names(pending):
                action, leaf = step[2], step[3]
                if action == "add":
                    entries[leaf] = step[4]
                else:
                    entries.pop(leaf, None)
                    if action == "rename":
                        entries[step[4]] = step[5]
            for leaf, child in entries.items():
                fill(child, os.path.join(path, leaf))
            for leaf in entries:
                os.chmod(os.path.join(path, leaf), 0o700 if entries[leaf].is_dir else 0o600)
        fill(self.top, target)


def content(durable, pending, choose):
    """Returns the bytes of a file: the durable operations and the chosen pending ones, in the order of the calls."""
    held = bytearray()
    for step in durable:
        write(held, step)
    for step, pieces in choose.writes(pending):
        write(held, step, pieces)
    return held


def write(held, step, pieces=None):
    if step[2] == "size":
        del held[step[3]:]
        held.extend(bytes(step[3] - len(held)))
        return
    offset, data = step[3], step[4]
    for sector in range(offset // SECTOR, (offset + len(data) - 1) // SECTOR + 1):
        if pieces is not None and sector not in pieces:
            continue
        start, end = max(offset, sector * SECTOR), min(offset + len(data), (sector + 1) * SECTOR)
        held.extend(bytes(max(0, end - len(held))))
        held[start:end] = data[start - offset:end - offset]


def sectors(step):
    return set(range(step[3] // SECTOR, (step[3] + len(step[4]) - 1) // SECTOR + 1)) if step[2] == "write" else set()


class Choice:
    """A random choice of the pending calls that are on the disk. `way` is one of WAYS."""

    WAYS = ["nothing", "everything", "a beginning", "some calls", "some pieces", "the end", "all but one", "all but a segment"]

    def __init__(self, rng, way):
        self.rng, self.way = rng, way

    def some(self, steps):
        rng, count = self.rng, len(steps)
        if self.way == "nothing":
            return []
        if self.way == "a beginning":
            return steps[:rng.randint(0, count)]
        if self.way == "the end":
            return steps[rng.randint(0, max(0, count - 1)):]
        if self.way == "all but one":
            gone = rng.randrange(count) if count else 0
            return steps[:gone] + steps[gone + 1:]
        if self.way == "all but a segment":
            segments = sorted({s[3] // SEGMENT for s in steps if s[2] == "write"})
            gone = rng.choice(segments) if segments else None
            return [s for s in steps if s[2] != "write" or s[3] // SEGMENT != gone]
        if self.way == "some calls":
            return [s for s in steps if rng.random() < 0.5]
        return list(steps)

    def names(self, pending):
        # Every common file system journals directories, so their changes arrive in order, up to some point.
        return pending[:self.rng.randint(0, len(pending))] if self.way != "everything" else pending

    def writes(self, pending):
        for step in self.some(pending):
            pieces = sectors(step)
            if self.way == "some pieces" or (self.way == "a beginning" and self.rng.random() < 0.2):
                pieces = {s for s in pieces if self.rng.random() < 0.5}
            yield step, pieces
