"""What a person reads while the job runs: its lines and its bars."""
