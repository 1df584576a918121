"""Checks: rules over one image and over a whole boot set, who can load it, and what messages mean.

``rule`` says what a rule is; a module per subject holds the rules; ``rules/*.toml`` hold the words about each, and
about what the formats find; ``report`` applies them.
"""
