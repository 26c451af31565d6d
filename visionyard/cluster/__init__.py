"""Running on a cluster: profiles, submitting, schedules, deploying."""
