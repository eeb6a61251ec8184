"""From a file to a row: examined, judged, recorded, with what was received waiting in a store."""
