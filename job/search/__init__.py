"""The trials of a search.

In reading order: `trial` (one of them), `tune` (which there are), `runners` (who runs them, and how that is chosen):
`inline`, `processes` (as they are `spawned`) with their `shared` images, `cluster` (Ray), `batched` with `stacked`
(many as one model). `book` keeps what has ended and what is under way; `rungs`, `halving` and `held` stop trials early,
`time_left` by MAX_HOURS; `workload` says how much there is to do.
"""
