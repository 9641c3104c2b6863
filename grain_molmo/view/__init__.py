"""What is in the data and what the model sees of it, for people: cards, pages, plots.

`describe` makes cards, plain data that say what to show (`model`); `html` and `page` draw them.
"""
