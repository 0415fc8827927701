"""Every picture: what they share (`drawing`), then the final training, the search, the answers, and runs side by side.

The only importer of matplotlib.
"""
