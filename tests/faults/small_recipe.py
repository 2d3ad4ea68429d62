"""The smallest recipe whose training reads the records of a file, for faults of records and images."""


def render_recipe(file: str) -> str:
    """A recipe of one bundled model that learns one step from a file of records."""
    return f"""
name: x
data: {{train: {{file: {file}}}}}
pyramid: [{{name: base, model: "scenes:small", tuning: full}}]
train: {{max_steps: 1}}
runtime: {{device: cpu}}
"""
