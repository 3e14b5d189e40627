"""From a request to pixel values and prompt ids."""
