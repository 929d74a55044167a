"""Rules files that the lines which show a finding again name: they outlive the run that wrote them, and the last ones are kept."""

import contextlib
import hashlib
import os
import pathlib
import tempfile

KEPT = 64  # files


def folder():
    """One that is ours alone: below the cache folder of the user, else a fresh one."""
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    with contextlib.suppress(OSError):
        out = pathlib.Path(base) / "bridge-verify" / "rules"
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(out, os.W_OK | os.X_OK) and out.stat().st_uid == os.geteuid():
            return out
    return pathlib.Path(tempfile.mkdtemp(prefix="bridge-verify-"))


class Rules:
    """A file with this text. `drop` removes it: nothing that was said names it."""

    def __init__(self, name, text):
        data = text.encode()
        self.path = folder() / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}.rules.json"
        part = self.path.with_name(f"{self.path.name}.{os.getpid()}.part")
        part.write_bytes(data)
        os.replace(part, self.path)
        self._forget()

    def _forget(self):
        """The oldest files, so that the folder does not grow."""
        files = []
        for file in self.path.parent.glob("*.rules.json"):
            with contextlib.suppress(OSError):  # another process has removed it
                files.append((file.stat().st_mtime, file))
        for _, file in sorted(files)[:-KEPT]:
            if file != self.path:
                file.unlink(missing_ok=True)

    def drop(self):
        self.path.unlink(missing_ok=True)
        if self.path.parent.name.startswith("bridge-verify-"):
            with contextlib.suppress(OSError):
                self.path.parent.rmdir()
