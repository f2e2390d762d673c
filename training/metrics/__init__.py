"""Scores of every task, as functions and as `evaluate.Metric` classes that work without the Hub."""
