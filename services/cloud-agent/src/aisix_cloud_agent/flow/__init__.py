"""What the flows of a leader share: calls that are paced and told of, tasks that stand and fall together."""
