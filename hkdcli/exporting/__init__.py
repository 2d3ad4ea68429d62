"""A judge as a folder of its own that plain transformers loads: weights, card, and the check of both."""
