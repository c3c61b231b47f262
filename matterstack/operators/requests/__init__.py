"""Requests in a directory, for somebody to answer: people, instruments, and kits for clusters nothing can reach."""
