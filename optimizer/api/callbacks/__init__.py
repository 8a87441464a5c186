"""Ready callbacks for `mergesmith.search`; each imports its library when it is created."""
