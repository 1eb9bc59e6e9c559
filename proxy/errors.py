"""What every error has in common that a person at the command line can mend."""

from __future__ import annotations


class UnusableInputError(Exception):
    """What was given cannot be used; the text says where, why and what to do, on one line or several."""
