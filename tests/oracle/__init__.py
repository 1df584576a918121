"""What real hypervisors did, recorded, and its comparison with what mbtool plans."""
