"""A sidecar that checks, forwards and tags calls to the Microsoft Defender APIs."""

__version__ = "0.1.0"
