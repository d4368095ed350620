"""Who asks, and what they may see: identity, groups, keys, access rules -> Scope.

The room decides; ``ports.py`` says what it needs kept. Three rules hold everywhere: deny beats allow, nothing said is
private to administrators, and what is not known for certain (a disabled user, a group list cut short) never widens
what is seen.
"""
