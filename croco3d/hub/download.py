"""Files of folders and of repositories on the Hub, and what went wrong in one sentence."""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from huggingface_hub import (
    _CACHED_NO_EXIST,
    constants,
    hf_hub_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_SHA256 = re.compile(r"[0-9a-f]{64}")


def fetch(
    name: str,
    filename: str,
    *,
    subfolder: str = "",
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    **options: Any,
) -> str | None:
    """Finds a file of a folder, or downloads it from the Hub into the cache.

    A file that just came is held against the hash that the Hub states.

    Args:
        name: a folder, or a repository on the Hub.
        filename: of the file.
        subfolder: of the folder or repository.
        revision: branch, tag or commit.
        cache_dir: cache other than the default one.
        **options: `token`, `local_files_only`, `force_download`.

    Returns:
        its path, `None` if the folder or repository has no such file.

    Raises:
        OSError: if there is no such repository, or the download failed.
    """
    if Path(name).is_dir():
        file = Path(name, subfolder, filename)
        return str(file) if file.is_file() else None
    where = str(Path(subfolder, filename).as_posix())
    cached: Any = None
    try:
        if not options.get("force_download"):
            cached = try_to_load_from_cache(name, where, cache_dir, revision)
        path = hf_hub_download(name, where, revision=revision, cache_dir=cache_dir, **options)
    except RemoteEntryNotFoundError:
        return None
    except Exception as error:
        # What was found to be absent when there was a connection is absent without one too.
        if isinstance(error, LocalEntryNotFoundError) and cached is _CACHED_NO_EXIST:
            return None
        # The HTTP library's own errors come through as they are; whatever it is, it is told.
        only = bool(options.get("local_files_only"))
        raise OSError(explain(name, error, revision, only)) from error
    if not isinstance(cached, str):
        _check_hash(name, path)
    return path


def fetch_weights(name: str, **options: Any) -> list[str]:
    """Finds the weights of a model in our layout, whole or in shards, or downloads them.

    Returns:
        the files; none for a folder that holds weights of another kind, or none.

    Raises:
        OSError: if a repository has none, or the download failed.
    """
    whole = fetch(name, WEIGHTS, **options)
    if whole is not None:
        return [whole]
    index = fetch(name, INDEX, **options)
    if index is None:
        if Path(name).is_dir():
            return []
        raise OSError(f"{name!r} holds neither {WEIGHTS} nor {INDEX}.")
    shards = json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"].values()
    files = []
    for shard in sorted(set(shards)):
        file = fetch(name, shard, **options)
        if file is None:
            raise OSError(f"{name!r} lacks {shard}, which its {INDEX} names.")
        files.append(file)
    return files


def explain(
    name: str, error: Exception, revision: str | None = None, cached_only: bool = False
) -> str:
    """Says in one sentence why a model cannot be had from the Hub, and what helps.

    Args:
        name: what was asked for.
        error: what was raised.
        revision: that was asked for.
        cached_only: whether downloading was forbidden by `local_files_only`.
    """
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, RevisionNotFoundError):
        return (
            f"{name!r} has no revision {revision!r} on the Hub; name one of its branches, tags or "
            "commits."
        )
    if isinstance(error, GatedRepoError) or status in (401, 403):
        return (
            f"The Hub refuses access to {name!r} ({status}): it is private or gated, or there is "
            "no such repository; log in with `hf auth login`, or pass token=..., from an account "
            "that may read it."
        )
    nowhere = f"Cannot find the model {name!r}: it is no folder or file here, and"
    if isinstance(error, HFValidationError):
        return f"{nowhere} no name of a repository on the Hub."
    if isinstance(error, RepositoryNotFoundError):
        return f"{nowhere} the Hub has no such repository; check the name."
    if isinstance(error, LocalEntryNotFoundError):
        if constants.is_offline_mode():
            why = "not in the cache; HF_HUB_OFFLINE is set, so nothing was downloaded: unset it, or"
        elif cached_only:
            why = "not in the cache, and local_files_only forbids downloading: leave it out, or"
        else:
            why = "the Hub cannot be reached: check the connection, or"
        return (
            f"{nowhere} {why} fetch it where there is a connection with `hf download {name}` and "
            "name its folder. A small model comes with croco3d: `--model croco3d-rooms`."
        )
    what = str(error).strip().splitlines()
    return (
        f"The download of {name!r} failed ({what[0] if what else type(error).__name__}); nothing "
        "incomplete was kept as a model: try again."
    )


def _check_hash(name: str, path: str) -> None:
    """Holds a downloaded file against the hash it is stored under, and removes it if it differs."""
    # Small files are stored under a git hash, large ones under the SHA-256 of their content.
    blob = os.path.realpath(path)
    expected = os.path.basename(blob)
    if not _SHA256.fullmatch(expected):
        return
    with open(blob, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        os.unlink(path)
        os.unlink(blob)
        raise OSError(
            f"The download of {name!r} is damaged: {os.path.basename(path)} has the SHA-256 "
            f"{found[:12]}..., the Hub states {expected[:12]}...; it was removed: try again."
        )
