"""How sure: from aligned predictions to intervals and tests, as plain numbers; knows no run and no text."""
