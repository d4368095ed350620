"""Models: what they are asked, what they answer, what it costs. Vendors are known in `providers/` only."""
