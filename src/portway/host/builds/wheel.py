"""Makes a wheel of the running Portway, so that apps are built with the version that hosts them."""

import base64
import hashlib
import importlib.metadata
import importlib.util
import os
import threading
import zipfile
from pathlib import Path

_EPOCH = (1980, 1, 1, 0, 0, 0)
_KEPT = 3
_writing = threading.Lock()  # deploys run side by side


def running_wheel(directory: Path) -> Path:
    """Return the wheel's path under `directory`, where it is made unless it exists. Equal content gives equal bytes."""
    distribution = importlib.metadata.distribution("portway")
    metadata = f"portway-{distribution.version}.dist-info"
    files = {f"portway/{name}": content for name, content in _package().items()}
    files |= {
        f"{metadata}/{name}": (distribution.read_text(name) or "").encode() for name in ("METADATA", "entry_points.txt")
    }
    files[f"{metadata}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: portway\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{metadata}/RECORD"] = _record(files, f"{metadata}/RECORD")
    # The folder's name changes with the content: uv caches a local wheel by its path.
    digest = hashlib.sha256(files[f"{metadata}/RECORD"]).hexdigest()[:16]
    wheel = directory / digest / f"portway-{distribution.version}-py3-none-any.whl"
    with _writing:
        if not wheel.exists():
            _write(wheel, files)
            _forget_old(directory, keep=wheel.parent)
    return wheel


def _package() -> dict[str, bytes]:
    spec = importlib.util.find_spec("portway")
    assert spec is not None
    assert spec.origin is not None
    root = Path(spec.origin).parent
    files: dict[str, bytes] = {}
    for path in sorted(root.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            files[path.relative_to(root).as_posix()] = path.read_bytes()
    return files


def _record(files: dict[str, bytes], own: str) -> bytes:
    lines = []
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(content)}\n")
    return "".join([*lines, f"{own},,\n"]).encode()


def _write(wheel: Path, files: dict[str, bytes]) -> None:
    wheel.parent.mkdir(parents=True, exist_ok=True)
    draft = wheel.with_suffix(f".{os.getpid()}")
    with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    draft.replace(wheel)


def _forget_old(directory: Path, keep: Path) -> None:
    folders = sorted((path for path in directory.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for folder in folders[:-_KEPT]:
        if folder != keep:
            for wheel in folder.iterdir():
                wheel.unlink()
            folder.rmdir()
