"""Decoding: scores of tokens become items."""
