"""What a person reads while the job runs.

In reading order: `logs` (one line an event), `forecast` (the time that is left), `progress` (lines, bars, and who else
follows).
"""
