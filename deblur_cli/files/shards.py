"""Shares of many photos, one for each machine; a photo's name alone says whose it is.

The share hangs on nothing but the path relative to the folder that was named: not on the order, on the other photos, on the
machine or on Python's own hash. So any scheduler can hand out the shares, in any order, more than once.
"""

import hashlib
import unicodedata


def share_of(key: str, count: int) -> int:
    """Which of ``count`` shares a photo belongs to, from 1 to ``count``.

    Args:
        key: its path relative to the folder of the search, with slashes. Letters with accents are the same however a file
            system composes them.
        count: of shares, at least 1.
    """
    name = unicodedata.normalize("NFC", key).encode(errors="surrogateescape")
    return int.from_bytes(hashlib.sha256(name).digest()[:8], "big") % count + 1
