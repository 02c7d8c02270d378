"""How the embedded model is made: ``python -m training`` from screens that are drawn here, to a checkpoint folder."""
