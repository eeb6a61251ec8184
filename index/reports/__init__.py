"""Reports: read, versioned, matched to their studies."""
