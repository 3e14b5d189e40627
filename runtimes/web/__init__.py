"""Serves a page and artifacts over HTTP from this machine to a browser."""
