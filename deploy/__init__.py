"""How the job is handed to other machines. Everything here needs Python's own library alone, so that
`make docker-run`, `make k8s` and `make kaggle` work without installing torch.
"""
