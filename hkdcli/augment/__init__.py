"""Variants of records that never lie about the label: operations, what each may falsify, and how they mix."""
