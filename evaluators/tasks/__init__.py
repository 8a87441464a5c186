"""lm-eval tasks and Python objectives: loading, splitting, few-shot examples, requests and metrics."""
