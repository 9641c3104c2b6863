"""Names of the mesh axes that the loader knows."""

CONTEXT_AXIS = "context"
"""The mesh axis whose devices share a row: its tokens, its crops and their pooling."""
ROW_AXES = ("data", "fsdp")
"""The mesh axes whose devices have different rows."""
