"""Deadlines of many, for whoever has a clock."""
