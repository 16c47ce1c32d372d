"""A web page on this computer that reads faces: server, answers, and the page itself (`page/`)."""
