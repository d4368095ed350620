"""From the bytes of a file to clean text with exact places.

``document`` holds the nouns, ``detect`` says what a file is, ``formats`` reads each kind, ``draft`` keeps offsets
true, and ``sandbox`` runs all of that in a separate process, because whoever can write a document can attack its
parser.
"""
