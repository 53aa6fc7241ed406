"""Weights of the hub: which files a commit has, and how they come into the hub's cache on this machine.

The hub's own client begins a file anew when its process died, for several may write into one cache
(github.com/huggingface/huggingface_hub/pull/4228). Here a file lies under a name of its own until it is
whole, one process at a time adds to it, and the next one asks for the rest (RFC 9110, section 14). What is
whole is linked into the cache by the hub's client.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import hashlib
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .errors import UnderstudyError
from .weights import Part, find_cache, is_commit

DOWNLOADS = 4
"""Files that are downloaded at the same time."""
PIECE_BYTES = 2**20
ATTEMPTS = 5
"""How often a download is tried that brings nothing."""
TRANSIENT = {408, 429, 500, 502, 503, 504}
"""Statuses of an answer after which the same may be asked again."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
"""A SHA-256: the name of a file in the cache, which a mirror must not choose freely."""

OnBytes = Callable[[int], None]
"""Called with how many bytes more are here; fewer than none when a file has to begin anew."""


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file of a repository; `digest` is its SHA-256 where the hub keeps it as a large one, else None."""

    path: str
    size: int
    digest: str | None


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """What is to be fetched of a part: the files that are loaded, of one commit; sizes are in bytes.

    `missing_bytes` are not on this machine yet.
    """

    part: Part
    commit: str
    files: tuple[RemoteFile, ...]

    @property
    def size(self) -> int:
        """All of it."""
        return sum(file.size for file in self.files)

    @property
    def missing_bytes(self) -> int:
        """What a download would bring now."""
        return sum(file.size - count_bytes_here(self, file) for file in self.files)


def plan_delivery(part: Part, revision: str) -> Delivery:
    """Ask the hub what a part consists of at a commit, tag or branch, and whether it may be had.

    Raises:
        UnderstudyError: it may not, or the repository has no such files.
    """
    from huggingface_hub import HfApi, constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.hf_api import RepoFile

    with explaining(part):
        api = HfApi()
        # Asked for a commit as well: unlike the files' list it is asked for once, so that no network is
        # told at once.
        newest = api.model_info(part.place, revision=revision).sha
        commit = revision if is_commit(revision) else newest
        if commit is None or not is_commit(commit):
            raise UnderstudyError(
                f"{constants.ENDPOINT} names no commit of {part.place}; use another mirror."
            )
        tree = api.list_repo_tree(part.place, recursive=True, revision=commit)
        known = {file.path: file for file in tree if isinstance(file, RepoFile)}
        chosen = part.choose_files(sorted(known))
        if missing := part.find_missing(chosen):
            raise UnderstudyError(
                f"{part.place} has no {missing[0]} at {commit[:12]}; set {part.variable} to weights in "
                "safetensors files, in the diffusers layout."
            )
        # Whose licence the account has not accepted is listed all the same.
        get_hf_file_metadata(hf_hub_url(part.place, chosen[0], revision=commit))
    files = tuple(
        RemoteFile(path=path, size=known[path].size, digest=known[path].lfs and known[path].lfs.sha256)
        for path in chosen
    )
    for file in files:
        if file.digest is not None and not _DIGEST.fullmatch(file.digest):
            raise UnderstudyError(
                f"{constants.ENDPOINT} gives no SHA-256 of {file.path}; use another mirror."
            )
    return Delivery(part=part, commit=commit, files=files)


def count_bytes_here(delivery: Delivery, file: RemoteFile) -> int:
    """How much of a file is on this machine."""
    cache = find_cache(delivery.part.place)
    if (cache / "snapshots" / delivery.commit / file.path).exists():
        return file.size
    if file.digest is None:
        return 0
    if (cache / "blobs" / file.digest).exists():
        return file.size
    try:
        return min(file.size, _name_unfinished(cache / "blobs" / file.digest).stat().st_size)
    except FileNotFoundError:
        return 0


def check_space(missing_bytes: int) -> None:
    """Refuse what the disk of the hub's cache has no room for.

    Raises:
        UnderstudyError: it has none; the message names both numbers.
    """
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if missing_bytes > free:
        raise UnderstudyError(
            f"{missing_bytes / 1e9:.1f} GB are to be fetched, and the disk of {str(folder)!r} has "
            f"{free / 1e9:.1f} GB free; free some, or set HF_HOME to a folder on a larger one."
        )


def fetch_delivery(delivery: Delivery, on_bytes: OnBytes) -> Path:
    """Download what is missing of a delivery, and return the folder that has all of it.

    Whatever ends it, what came is kept, and the next call goes on from there.

    Raises:
        UnderstudyError: the hub or the disk refuses, or another process downloads the same.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars, logging

    disable_progress_bars()
    logging.set_verbosity_error()
    part, commit = delivery.part, delivery.commit
    blobs = find_cache(part.place) / "blobs"
    large = [file for file in delivery.files if file.digest]
    small = [file for file in delivery.files if not file.digest]

    def link(files: Sequence[RemoteFile]) -> str:
        return snapshot_download(
            part.place, revision=commit, allow_patterns=[glob.escape(file.path) for file in files]
        )

    stopped = threading.Event()

    def bring(file: RemoteFile) -> None:
        if (blobs / file.digest).exists():
            on_bytes(file.size)
        else:
            _download(delivery, file, blobs / file.digest, on_bytes, stopped)

    with explaining(part):
        blobs.mkdir(parents=True, exist_ok=True)
        # Weights come last: where they are, everything is.
        if small:
            link(small)
            on_bytes(sum(file.size for file in small))
        with ThreadPoolExecutor(DOWNLOADS) as pool:
            coming = [pool.submit(bring, file) for file in large]
            try:
                ended, _ = wait(coming, return_when=FIRST_EXCEPTION)
            finally:
                # After a failure or Ctrl-C the other downloads end with their next piece.
                stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
        for one in ended:
            one.result()
        return Path(link(delivery.files))


def _name_unfinished(blob: Path) -> Path:
    return blob.with_name(f"{blob.name}.understudy.incomplete")


def _download(
    delivery: Delivery, file: RemoteFile, blob: Path, on_bytes: OnBytes, stopped: threading.Event
) -> None:
    unfinished = _name_unfinished(blob)
    with unfinished.open("a+b", buffering=0) as sink:
        try:
            fcntl.flock(sink, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UnderstudyError(
                f"Another process downloads {file.path} of {delivery.part.place}; wait for its end."
            ) from None
        if blob.exists():
            on_bytes(file.size)
            return
        if _Download(delivery, file, sink, on_bytes, stopped).run():
            os.fsync(sink.fileno())
            os.replace(unfinished, blob)


class _Download:
    """One large file on its way, behind what is here of it."""

    def __init__(
        self,
        delivery: Delivery,
        file: RemoteFile,
        sink: BinaryIO,
        on_bytes: OnBytes,
        stopped: threading.Event,
    ) -> None:
        self._repository = delivery.part.place
        self._commit = delivery.commit
        self._file = file
        self._sink = sink
        self._on_bytes = on_bytes
        self._stopped = stopped
        self._digest = hashlib.sha256()
        self._here = 0

    def run(self) -> bool:
        """Whether the file is whole; it is not when it was stopped.

        Raises:
            UnderstudyError: what came is not what the hub has.
            httpx2.TransportError, HfHubHTTPError: the hub does not give it.
        """
        import httpx2
        from huggingface_hub.errors import HfHubHTTPError

        self._read_what_is_here()
        attempts = 0
        while self._here < self._file.size and not self._stopped.is_set():
            before = self._here
            try:
                self._ask_for_the_rest()
            except (httpx2.TransportError, HfHubHTTPError) as error:
                if isinstance(error, HfHubHTTPError) and error.response.status_code not in TRANSIENT:
                    raise
                attempts = 1 if self._here > before else attempts + 1
                if attempts == ATTEMPTS:
                    raise
                self._stopped.wait(2**attempts / 4)
            else:
                if self._here == before:
                    # An answer without an error and without a byte: there may be no end of them.
                    raise self._explain_difference()
        if self._here < self._file.size:
            return False
        if self._here > self._file.size or self._digest.hexdigest() != self._file.digest:
            self._begin_anew()
            raise self._explain_difference()
        return True

    def _explain_difference(self) -> UnderstudyError:
        return UnderstudyError(
            f"{self._file.path} of {self._repository} did not arrive as the hub has it; fetch it again."
        )

    def _read_what_is_here(self) -> None:
        self._sink.seek(0)
        while not self._stopped.is_set() and (piece := self._sink.read(PIECE_BYTES)):
            self._count(piece)

    def _ask_for_the_rest(self) -> None:
        from huggingface_hub import constants, get_session, hf_hub_url, hf_raise_for_status
        from huggingface_hub.utils import build_hf_headers

        headers = {**build_hf_headers(), "accept-encoding": "identity"}
        if self._here:
            headers["range"] = f"bytes={self._here}-"
        url = hf_hub_url(self._repository, self._file.path, revision=self._commit)
        timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
        with get_session().stream("GET", url, headers=headers, timeout=timeout) as answer:
            if answer.status_code == 416 and self._here:
                self._begin_anew()
                return
            hf_raise_for_status(answer)
            if self._here and answer.status_code != 206:
                self._begin_anew()
            for piece in answer.iter_bytes(PIECE_BYTES):
                self._sink.write(piece)
                self._count(piece)
                if self._stopped.is_set() or self._here > self._file.size:
                    return

    def _count(self, piece: bytes) -> None:
        self._digest.update(piece)
        self._here += len(piece)
        self._on_bytes(len(piece))

    def _begin_anew(self) -> None:
        self._sink.truncate(0)
        self._on_bytes(-self._here)
        self._digest = hashlib.sha256()
        self._here = 0


@contextmanager
def explaining(part: Part) -> Iterator[None]:
    """Turn what the hub's client raises for a part into one sentence without an address or a token.

    Raises:
        UnderstudyError: something was raised.
    """
    import httpx2
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    place = f"{part.place} ({part.variable})"
    try:
        yield
    except OfflineModeIsEnabled:
        message = f"HF_HUB_OFFLINE is set, so that nothing is fetched; unset it to fetch {place}."
    except GatedRepoError:
        message = (
            f"{place} is given only to accounts that accepted its licence; accept it at "
            f"{constants.ENDPOINT}/{part.place}, and set HF_TOKEN to a token of that account."
        )
    except RepositoryNotFoundError:
        message = (
            f"The hub shows no repository {place}; check its name, and set HF_TOKEN if it is a private one."
        )
    except RevisionNotFoundError:
        message = f"{place} has no revision {part.revision!r}; check its setting."
    except HFValidationError:
        message = f"{place} is no hub id; set it to one (owner/name), or to a folder."
    except HfHubHTTPError as error:
        status = error.response.status_code
        hint = " (is HF_TOKEN still valid?)" if status == 401 else ""
        message = f"The hub answered with status {status} for {place}{hint}; try again later."
    except (httpx2.TransportError, LocalEntryNotFoundError):
        message = (
            f"{constants.ENDPOINT} cannot be reached to fetch {place}; check the network (HF_ENDPOINT names "
            "a mirror), and fetch again: what came is kept."
        )
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        message = (
            f"The disk is full, with {place} not whole; free some space and fetch again: what came is kept."
        )
    else:
        return
    raise UnderstudyError(message)
