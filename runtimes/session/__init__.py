"""The generation loop and what it needs of a backend."""
