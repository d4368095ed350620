"""Mainstay: generative AI as a dependable service."""

__version__ = "0.1.0"
