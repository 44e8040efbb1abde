"""Success rates per (node, token): visit accounting, exact enumeration, which branch to sample next."""
