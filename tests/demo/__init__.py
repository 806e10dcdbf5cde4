"""`make demo`: a mesh of three hosts carries, denies, splits, delays and survives, each line with a second witness.

show      what is printed: commands as a user would type them, checks with their witness, the last line
steps     the story, one function per feature
traffic   requests and load, measured
leftover  processes of an earlier run, and who holds a port that is needed
"""
