"""Fuzzing: what a client, a proxy or whoever writes the store may send is survived."""
