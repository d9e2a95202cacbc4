"""What the tables of those that serve over HTTP have in common."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from agent.config.scalars import Listen, Secret
from agent.config.table import Table

TOKEN_LENGTH = 16
"""Characters of a token at least: shorter ones can be guessed by trying."""


class Served(Table):
    """A table with where to listen, and the token that those who come have to show."""

    listen: Listen = None
    token: Secret | None = None
    """None lets everybody in who is on this machine; beyond it there is no listening without one."""
    hosts: tuple[str, ...] = ()
    """Names, besides its addresses and its own, by which people reach this machine."""

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if self.token is not None and len(self.token.get_secret_value()) < TOKEN_LENGTH:
            raise ValueError(
                f"token: must have {TOKEN_LENGTH} characters or more;"
                " one is made by: python -c 'import secrets; print(secrets.token_urlsafe())'"
            )
        if self.listen and not self.listen.loopback and self.token is None:
            raise ValueError(
                f"token: is missing; listen = {str(self.listen)!r} can be reached from other machines, so those who"
                ' come have to show one: give token = "${NAME}" or a file\'s absolute path, or listen on 127.0.0.1'
            )
        return self
