"""`make test-gpu`: one command that proves a GPU, or says what does not hold on it.

`steps`: a step is a process of its own with an estimate, a time limit and notes; running them within a budget.
`plan`: which steps there are, in the order of what is most worth knowing. `page`: what was noted as one folder.
`facts`, `replays`, `resumes`, `stacks`, `speeds`, `suites`, `runs`: what the steps do. `work`: a step's process.
`states`, `jobs`: where two learners, or two finished runs, differ. `pictures`: the figures drawn.
"""
