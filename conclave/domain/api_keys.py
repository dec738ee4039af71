"""What an API key looks like, what a browser holds of who signed in with one, and what is kept of both. Pure: randomness is
an argument.

A key is `cnv_<id>_<secret>`: the id is public and names the key in lists and logs; of the secret, which has 256 bits of
chance in it, only a hash is kept. With so much chance a fast hash is enough: there is nothing to guess.
"""

import base64
import hmac
import re
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256

ID_BYTES, SECRET_BYTES = 8, 32
_SECRET = r"[A-Za-z0-9_-]{43}"
_KEY = re.compile(rf"cnv_(?P<id>[a-z2-7]{{13}})_(?P<secret>{_SECRET})")
_PASS = re.compile(_SECRET)


class Scope(StrEnum):
    """What a key lets its holder do."""

    ASK = "ask"  # put questions, and read what came of one's tenant's own, in the pages, too
    FEEDBACK = "feedback"  # say what an answer of one's tenant was worth
    ADMIN = "admin"  # all of it, of every tenant, and all pages


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is told to its holder, once."""

    key_id: str
    secret: str = field(repr=False)

    @classmethod
    def of(cls, random: bytes) -> "ApiKey":
        """The key that `random` makes: ID_BYTES + SECRET_BYTES of them. Raises: ValueError for another number."""
        if len(random) != ID_BYTES + SECRET_BYTES:
            raise ValueError(f"a key takes {ID_BYTES + SECRET_BYTES} random bytes, got {len(random)}")
        key_id = base64.b32encode(random[:ID_BYTES]).decode().rstrip("=").lower()
        return cls(key_id, _in_letters(random[ID_BYTES:]))

    @classmethod
    def parsed(cls, text: str) -> "ApiKey | None":
        """The key that a client sent; None for what is none."""
        match = _KEY.fullmatch(text)
        return cls(match["id"], match["secret"]) if match else None

    @property
    def text(self) -> str:
        """What its holder sends."""
        return f"cnv_{self.key_id}_{self.secret}"

    @property
    def digest(self) -> bytes:
        """What is kept of the secret."""
        return _digest(self.secret)

    def is_of(self, digest: bytes) -> bool:
        """True for the key that `digest` was kept of; takes the same time for any other."""
        return hmac.compare_digest(self.digest, digest)


@dataclass(frozen=True, slots=True)
class Pass:
    """What the browser of someone who signed in holds: chance, and nothing of their key."""

    secret: str = field(repr=False)

    @classmethod
    def of(cls, random: bytes) -> "Pass":
        """The one that `random` makes: SECRET_BYTES of them. Raises: ValueError for another number."""
        if len(random) != SECRET_BYTES:
            raise ValueError(f"a pass takes {SECRET_BYTES} random bytes, got {len(random)}")
        return cls(_in_letters(random))

    @classmethod
    def parsed(cls, text: str) -> "Pass | None":
        """The one that a browser sent; None for what is none."""
        return cls(text) if _PASS.fullmatch(text) else None

    @property
    def digest(self) -> bytes:
        """What is kept of it."""
        return _digest(self.secret)


def _in_letters(random: bytes) -> str:
    return base64.urlsafe_b64encode(random).decode().rstrip("=")


def _digest(secret: str) -> bytes:
    return sha256(secret.encode()).digest()
