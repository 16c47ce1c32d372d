"""Finding, cutting out and describing faces in pictures and videos."""
