"""Variants of records whose labels are to stay true: operations, what each may falsify, and how they mix."""
