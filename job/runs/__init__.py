"""A run as it lies in its store.

In reading order: `owner` and `lock` (one job at a time), `status` (where it stands, for people), `checkpoint` and
`keeper` (where it stands, to go on from), `pace` (how often all of them write), `code` and `provenance` (what made it),
`manifest` and `publish` (what vouches for it), `finished` (reading it again), `shapes` (what its files must look like).
"""
