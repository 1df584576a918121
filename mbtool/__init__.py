"""mbtool: see, check, plan, build and prove x86 boot images."""

__version__ = "0.1.0"
