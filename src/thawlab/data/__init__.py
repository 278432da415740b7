"""Images: found, checked, decoded, split, in batches; knows neither networks nor runs. Imported from above."""
