"""The HTTP door: JSON for programs, pages for people. It enters the rooms through ``app/`` and decides nothing itself."""
