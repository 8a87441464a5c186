"""The search: samplers, sessions, run folders, worker pools, the search loop, the command line, the Python API.

Imports go one way: stop_signals, proposal, samplers, config, session, run_folder, pools, search, terminal, report,
demo, start, commands, api.
"""
