"""What `MODE` names, each with a `run(settings, progress, stop)`.

`run` is the story of a run: `beginning` makes what its stages share, `banner` is what it says, `ending` what comes
last, `seen` what the model looked at. Before it `check`; with finished runs `summary`, `verify` and `export` (with the
files named after them) and `predict`.
"""
