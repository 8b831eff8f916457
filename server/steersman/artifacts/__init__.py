"""What vectors and edits have in common: their files, and the store that a server keeps them in."""
