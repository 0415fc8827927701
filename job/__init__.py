"""A containerized image-classification training job: tune, train, report, publish."""
