"""Providers: the only place with vendors' words. Each translates one wire format into the nouns of `models.chat`."""
