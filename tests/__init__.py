"""A package of its own: another package called `tests`, of which indexes hold many, must not take its place."""
