"""A timm network and its weights: stages, freezing, reinitialising; knows no dataset, strategy or run.
Imported from above.
"""
