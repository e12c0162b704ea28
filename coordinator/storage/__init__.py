"""Rows and nothing else: one file per noun, functions that take an open transaction first and return frozen values."""
