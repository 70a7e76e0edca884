"""Readers of published data sets and of one's own captures, each in its raw layout."""
