"""Nodes: whose privacy unit each is, how they are sealed, packed, answered from and paraphrased."""
