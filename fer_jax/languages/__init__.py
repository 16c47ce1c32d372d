"""The texts for users, in English and Persian."""
