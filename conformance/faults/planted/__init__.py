"""The planted faults and harmless variations, one file for each part of a port."""
