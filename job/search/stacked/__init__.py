"""Many learners as one: their weights lie stacked, so that one batched operation does the work of many small ones.

Row k of every tensor belongs to learner k alone. It keeps its own start weights, order of images, dropout, learning
rate and count of Adam steps, all from the same seeds as `job.engine`'s learner of that part; nothing flows between
rows. How many learners are in a stack may change the last bits of a sum and nothing else.

The model's own forward runs under `torch.func.vmap` (https://docs.pytorch.org/docs/stable/func.html): linear layers
become batched matrix products, convolutions grouped ones, and batch norm's statistics are kept a learner.

In reading order: `architecture` (what the learners have in common), `state` (what each is), `draws` (the mode under
which the model's forward draws dropout), `optimizers`, `step` (the stack and one step of it), `repeated` (steps as CUDA
graphs), `epochs`, `proof` (does it do here what learners alone do).
"""
