"""The pieces that papers ablate: parts of a loss, of a pseudo target, of a mixture."""
