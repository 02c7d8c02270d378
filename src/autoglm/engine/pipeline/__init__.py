"""An engine over pipeline stages: rank 0 schedules, samples and runs the first; the others run theirs."""
