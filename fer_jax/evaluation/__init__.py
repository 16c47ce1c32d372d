"""How well a model does on people it never saw: protocols, measures, intervals and the report."""
