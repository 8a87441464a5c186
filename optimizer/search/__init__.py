"""The search loop: proposals, racing, leaderboard, verdict."""
