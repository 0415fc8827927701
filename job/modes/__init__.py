"""What `MODE` names, each with a `run`: the run itself, and what is done before it and with finished ones."""
