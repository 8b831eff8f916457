"""Lines of text: their production and their reading."""
