"""The HTTP door: JSON for programs, pages for people. It enters the rooms through ``app.py`` and decides nothing itself."""
