"""Plans: what a loader or Xen will build, as values (no clock, no machine, no file)."""
