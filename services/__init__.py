"""Who does it: a process each, named in schemas.flow. Services never import each other."""
