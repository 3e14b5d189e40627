"""Admits one client: a token that is good once, and the secret that the client gets for it."""

import secrets
import threading
from hmac import compare_digest


class Ticket:
    """A token for one client. Whoever shows it first gets a secret, which admits from then on.

    All comparisons take the same time whatever they find.
    """

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe(16)
        self._secret: str | None = None
        self._lock = threading.Lock()

    @property
    def used(self) -> bool:
        """Whether a client has shown the token."""
        return self._secret is not None

    def fits(self, token: str) -> bool:
        """Whether a string is the token, used or not."""
        return compare_digest(token.encode(), self.token.encode())

    def redeem(self, token: str) -> str | None:
        """Returns the secret for the token; None if it is another one, or was used before."""
        with self._lock:
            if not self.fits(token) or self.used:
                return None
            self._secret = secrets.token_urlsafe(16)
            return self._secret

    def admits(self, secret: str) -> bool:
        """Whether a string is the secret of the client that was admitted."""
        known = self._secret
        return known is not None and compare_digest(secret.encode(), known.encode())
