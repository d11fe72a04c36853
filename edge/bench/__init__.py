"""``edgelid bench``: what listening costs on this device."""
