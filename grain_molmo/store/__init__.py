"""Reading and writing the store: annotation records, media, manifests."""
