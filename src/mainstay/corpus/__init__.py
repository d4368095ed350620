"""The documents: where they come from, how they are read and cut, and the index that finds them."""
