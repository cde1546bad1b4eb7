"""Which stage is wrong first, which layer or node, and by how much: short answers for a port."""
