"""A small world in English: pairs of lists of words, of which one word is unpleasant, as people have rated it."""
