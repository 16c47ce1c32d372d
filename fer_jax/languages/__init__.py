"""What the package says to its users, in English and Persian."""
