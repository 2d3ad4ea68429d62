"""Answers of other systems: free text about one record, read as choice ids or not at all."""
