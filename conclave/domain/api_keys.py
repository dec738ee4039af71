"""What an API key looks like, and what is kept of one. Pure: randomness is an argument.

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
_KEY = re.compile(r"cnv_(?P<id>[a-z2-7]{13})_(?P<secret>[A-Za-z0-9_-]{43})")


class Scope(StrEnum):
    """What a key lets its holder do."""

    ASK = "ask"  # put questions, and read what came of one's tenant's own
    FEEDBACK = "feedback"  # say what an answer of one's tenant was worth
    ADMIN = "admin"  # all of it, of every tenant, and the pages


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
        return cls(key_id, base64.urlsafe_b64encode(random[ID_BYTES:]).decode().rstrip("="))

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
        return sha256(self.secret.encode()).digest()

    def is_of(self, digest: bytes) -> bool:
        """True for the key that `digest` was kept of; takes the same time for any other."""
        return hmac.compare_digest(self.digest, digest)
