"""The search: study, samplers, worker pools, verdict, command line, demo."""
