"""Prompts: versioned files, and the messages made out of them. No prompt text stands in code."""
