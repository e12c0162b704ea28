"""Bytes named by their SHA-256, and the staging area of uploads that are not complete yet."""
