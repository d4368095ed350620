"""Staying up: breakers, adaptive concurrency, hedging, admission, and the ladder of limited modes.

Pure logic: nothing here starts a thread, sleeps for somebody else, or knows what a model is. Everything may be called from
many threads at once.
"""
