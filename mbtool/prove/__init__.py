"""Proofs: boot it in QEMU, watch the console, compare with the plan."""
