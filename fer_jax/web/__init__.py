"""A local web page that shows the emotions of faces: server, answers and the page (`page/`)."""
