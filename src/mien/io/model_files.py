"""Weight files from the web: `https://…/model.onnx` and `hf://owner/repo[@revision][/file]`, with a cache and digest pinning.

`#sha256=…` at the end pins the content: another file is rejected, also one that is cached already. A file is downloaded once;
a later call uses the cache without a network. Without https a digest is required, since anybody on the way could replace the
file.
"""

import hashlib
import re
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import SourceError, WeightsError, needs, reason
from .files import atomic_write, cache_folder, locked, sha256
from .urls import fetch, without_secrets

FILE = "model.onnx"  # file of an hf:// repository if none is named: the layout of `mien export --push-ready`

MAX_BYTES = 4_000_000_000
SECONDS = 1800.0

_HUB = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?(?:/(?P<file>[\w./-]+))?")


def model_file(url: str) -> Path:
    """Return the path of the downloaded or cached file of a URL, as the module describes it.

    Raises WeightsError: an invalid URL, a failed download, or another digest than the pinned one; MissingExtra: huggingface_hub
    is not installed.
    """
    place, _, fragment = url.partition("#")
    name, digest = without_secrets(place), fragment.removeprefix("sha256=").lower()
    if fragment and not re.fullmatch(r"sha256=[0-9a-fA-F]{64}", fragment):
        raise WeightsError(f"{name}: expected #sha256= and 64 hexadecimal digits, got #{fragment[:80]}", value=fragment)
    path = _from_hub(place, name) if place.startswith("hf://") else _from_web(place, name, pinned=bool(digest))
    if digest and (found := sha256(path)) != digest:
        message = f"{name} has sha256 {found}, expected {digest}: the file was changed, or the digest is of another file"
        raise WeightsError(f"{message}; the downloaded file is {path}", path=path, value=found, expected=digest)
    return path


def folder() -> Path:
    """Return the folder of downloaded models, as `cache_folder` does; raises WeightsError for a user without a home folder."""
    if (found := cache_folder("models")) is None:
        raise WeightsError("this user has no home folder for downloaded models; set MIEN_CACHE to a folder")
    return found


def _from_web(url: str, name: str, *, pinned: bool) -> Path:
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or (parts.scheme == "http" and not pinned):
        raise WeightsError(f"{name}: expected https://, hf:// or http:// with #sha256=…", value=name)
    file = re.sub(r"[^\w.-]", "_", parts.path.rpartition("/")[2]) or FILE
    path = folder() / hashlib.sha256(url.encode()).hexdigest()[:16] / file
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path, wait=True):
        if not path.is_file():
            try:
                data = fetch(url, max_bytes=MAX_BYTES, timeout=SECONDS, allow_private=True)  # the URL is the user's own
            except SourceError as error:
                raise WeightsError(str(error), value=name) from error
            with atomic_write(path) as part:
                part.write_bytes(data)
    return path


def _from_hub(url: str, name: str) -> Path:
    found = _HUB.fullmatch(url)
    if found is None:
        message = f"invalid {name}: expected hf://owner/repo, hf://owner/repo@revision or hf://owner/repo/file"
        raise WeightsError(message, value=name)
    with needs("hub", "huggingface_hub"):
        from huggingface_hub import hf_hub_download
    repository, revision, file = found["repo"], found["revision"], found["file"] or FILE
    try:
        return Path(hf_hub_download(repository, file, revision=revision, cache_dir=folder() / "hub"))
    except Exception as error:  # its exceptions have no common base
        message = f"cannot download {name}: {reason(error)}; check the repository, the revision and HF_TOKEN"
        raise WeightsError(message, value=name) from error
