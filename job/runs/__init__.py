"""A run as it lies in its store: who holds it, where it stands, what it left and what vouches for that."""
