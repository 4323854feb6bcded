"""Boards as people own them: a YAML file becomes a session that ships, builds and runs engines."""
