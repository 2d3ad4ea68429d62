"""The embedded world: drawn scenes, records about them, and tiny VLMs that have learned to see them."""
