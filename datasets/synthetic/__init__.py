"""The synthetic set."""
