"""The trials of a search: which there are, one of them, and who runs them."""
