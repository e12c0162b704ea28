"""Rows and nothing else: one file per noun, functions that take an open transaction first.

Secrets lie in columns sealed under the key-encryption key; this folder stores what it is given and decides nothing.
"""
