"""Builders: a plan and its inputs become files."""
