"""Formats: bytes to values and back, one file per structure."""
