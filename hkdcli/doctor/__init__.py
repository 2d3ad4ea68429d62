"""What `hkd doctor` looks at: the machine, our own arithmetic, and the recipe, records or model given."""
