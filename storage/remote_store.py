"""What is wrong with an object store that cannot be used, in one line."""

from __future__ import annotations

import os

from storage.disk import disk_error
from storage.environment import variable
from storage.errors import SettingError
from storage.layout import Store

_S3 = frozenset({"s3", "s3a"})
# A person waits for it; runs have waited longer, by the variables of their client.
_CONNECT_S, _READ_S = 5, 20


def require_reachable(store: Store) -> None:
    """Ask a store on S3 for its bucket, once: address, key and bucket are right, or the error says what is not.

    Raises:
        SettingError: The bucket cannot be listed.
    """
    if store.root.protocol not in _S3:
        return
    import s3fs

    once = {"connect_timeout": _CONNECT_S, "read_timeout": _READ_S, "retries": {"mode": "standard", "total_max_attempts": 1}}
    files = s3fs.S3FileSystem(config_kwargs=once, skip_instance_cache=True)
    try:
        files.ls(store.root.path.split("/")[0])
    except OSError as error:  # s3fs makes errors of the system out of what the server answers
        raise _unusable(error, home=str(store.root)) from None
    except Exception as error:
        known = store_error(error, home=str(store.root))
        if known is None:
            raise
        raise known from None


def store_error(error: BaseException, *, home: str) -> SettingError | None:
    """Return an error of one line for what a client of S3 raised; None if the error is another one.

    Args:
        error: What was raised, or an error that it caused.
        home: Address of the store.
    """
    chain: BaseException | None = error
    while chain is not None:
        # botocore is there only with the extra `s3`, and its errors share a module.
        if type(chain).__module__.startswith("botocore.exceptions"):
            return _unusable(chain, home=home)
        chain = chain.__cause__ or chain.__context__
    return None


def known_error(error: BaseException, *, home: str) -> SettingError | None:
    """Return an error of one line for what the object store or a disk refused; None if the error is another one."""
    return store_error(error, home=home) or disk_error(error, home=home)


def _unusable(error: BaseException, *, home: str) -> SettingError:
    reason = " ".join(str(error).split())[:200]
    server = os.environ.get("AWS_ENDPOINT_URL") or "AWS"
    return SettingError(
        f"the store {variable('home')}={home} cannot be used ({reason}): look whether {server} answers (AWS_ENDPOINT_URL), "
        "the key is right (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), and the bucket exists"
    )
