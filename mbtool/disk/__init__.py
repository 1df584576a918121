"""Disk images: partitions, the ESP, the boot stub; all thinking done before the first byte is written."""
