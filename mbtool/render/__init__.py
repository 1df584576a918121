"""Renderers: trees, plans and findings as text and JSON."""
